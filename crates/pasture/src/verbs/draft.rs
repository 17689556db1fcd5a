//! `--draft`: the smaller model that proposes tokens, found and loaded for the verbs whose model answers.

use pasture::{Device, Draft};

use super::model::{self, Opened};
use crate::exit::{Failure, Status};
use crate::output;
use crate::settings::{Given, Origin, Settings};

/// Loads a model that answers, with the draft that the settings name.
pub fn open(name: Option<&str>, given: &Given, exact: bool, strict: bool) -> Result<Opened, Failure> {
    let settings = Settings::resolve(given)?;
    let Some(draft) = load(&settings, &Device::new(settings.whole("threads")))? else {
        return model::open(name, given, exact, strict);
    };
    model::open_so(name, given, exact, strict, &mut |_, options| {
        options.draft = Some(draft.clone());
        Ok(())
    })
}

/// The draft, if there is one, on the processor of the models that it proposes for.
pub fn load(settings: &Settings, device: &Device) -> Result<Option<Draft>, Failure> {
    let Some(name) = settings.text("draft") else { return Ok(None) };
    if settings.text("speculate") == Some("off") {
        return match settings.get("draft") {
            Some((_, Origin::Flag)) => {
                let what = "`--draft` has no effect with `--speculate off`: nothing is proposed then";
                Err(Failure::new(Status::Usage, what))
            }
            _ => Ok(None),
        };
    }
    let source = model::source(Some(name))?;
    let bar = model::bar(name, output::decorated(settings.text("color")));
    let draft = Draft::from_source(name, &source, device, &mut |done, total| model::advance(&bar, done, total));
    bar.finish_and_clear();
    Ok(Some(draft?))
}
