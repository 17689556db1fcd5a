//! How a run is shown: a bar and lines on standard error, or JSON lines on standard output; and what it leaves behind for
//! people: event files and a page of curves, renewed at each measurement.

use std::path::{Path, PathBuf};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use pasture_files::durable;
use pasture_lab::data::Facts;
use pasture_lab::tune::events::{Event, Found, Point};
use pasture_lab::tune::report::{self, Shown};
use pasture_lab::tune::tensorboard::Scalars;
use pasture_lab::tune::{Plan, events::Reason};

use crate::output;

/// Says what was found in the data.
pub fn data(facts: &Facts) {
    eprintln!("{}: {}", facts.file, facts.recognized);
    if facts.skipped > 0 {
        eprintln!(
            "note: {} rows were left out; the first: {}",
            facts.skipped,
            facts.reasons.first().map_or("", |reason| reason)
        );
    }
    if !facts.unused.is_empty() {
        eprintln!("note: these fields have no effect: {}", facts.unused.join(", "));
    }
}

/// Shows a run.
pub struct Told {
    bar: ProgressBar,
    json: bool,
    scalars: Option<Scalars>,
    page: Option<Page>,
}

/// The page of curves, as far as the run has come.
struct Page {
    file: PathBuf,
    title: String,
    plan: Plan,
    log: Vec<Point>,
    evaluations: Vec<(usize, Found)>,
    events: Vec<Event>,
}

impl Told {
    /// Shows a run that writes into `folder`.
    pub fn new(folder: &Path, title: &str, plan: &Plan, json: bool, decorated: bool) -> Told {
        let target = if decorated && !json { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let style = ProgressStyle::with_template("{bar:24} {pos}/{len} {msg}");
        let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = ProgressBar::with_draw_target(Some(plan.steps as u64), target).with_style(style);
        let scalars = plan.recipe.tensorboard.unwrap_or(true).then(|| Scalars::create(folder));
        let scalars = scalars.and_then(|made| match made {
            Ok(scalars) => Some(scalars),
            Err(fault) => {
                eprintln!("note: no events for TensorBoard: {fault}");
                None
            }
        });
        let page = plan.recipe.report.unwrap_or(true).then(|| Page {
            file: folder.join("report.html"),
            title: title.to_owned(),
            plan: plan.clone(),
            log: Vec::new(),
            evaluations: Vec::new(),
            events: Vec::new(),
        });
        Told { bar, json, scalars, page }
    }

    /// Shows what happened.
    pub fn tell(&mut self, event: &Event) {
        if self.json {
            if let Ok(value) = serde_json::to_value(event) {
                // A reader that went away ends the program; nothing is lost that a checkpoint does not have.
                drop(output::json(&value));
            }
        } else {
            self.show(event);
        }
        self.draw(event);
        if let Some(page) = &mut self.page {
            page.add(event);
        }
    }

    /// Puts the whole run on the page: what happened before it was gone on with as well.
    pub fn finish(mut self, log: &[Point], evaluations: &[(usize, Found)]) {
        if let Some(page) = &mut self.page {
            page.log = log.to_vec();
            page.evaluations = evaluations.to_vec();
            page.write();
        }
        self.bar.finish_and_clear();
    }

    fn line(&self, text: &str) {
        self.bar.suspend(|| eprintln!("{text}"));
    }

    fn show(&self, event: &Event) {
        match event {
            Event::Started { step, steps, samples, held_out, trained } => {
                let from = if *step > 0 { format!(", going on after step {step}") } else { String::new() };
                let trained = output::count(*trained as u64);
                self.line(&format!(
                    "{samples} samples, {held_out} held out, {steps} steps, {trained} trained values{from}"
                ));
                self.bar.set_position(*step as u64);
            }
            Event::Note { text } => self.line(&format!("note: {text}")),
            Event::Prepared { done, of } => self.bar.set_message(format!("reference {done}/{of}")),
            Event::Step { step, loss, norm, rate, skipped, tokens_per_second, seconds_left, .. } => {
                let number =
                    |value: &Option<f64>| value.map_or_else(|| "not finite".to_owned(), |value| format!("{value:.4}"));
                let left = indicatif::HumanDuration(Duration::from_secs(*seconds_left as u64));
                let text = format!(
                    "loss {} · norm {} · rate {rate:.2e} · {tokens_per_second:.0} tokens/s · {left:#} left",
                    number(loss),
                    number(norm)
                );
                if *skipped {
                    self.line(&format!("step {step} skipped: loss or gradient is no finite number"));
                }
                self.bar.set_position(*step as u64);
                self.bar.set_message(text.clone());
                if self.bar.is_hidden() {
                    self.line(&format!("step {step} · {text}"));
                }
            }
            Event::Evaluated { step, found } => {
                let right = found.right.map_or_else(String::new, |right| format!(", {:.0} % right", right * 100.0));
                self.line(&format!("step {step} · held-out loss {:.4} ± {:.4}{right}", found.loss, found.stderr));
            }
            Event::Sample { step, prompt, text } => {
                self.line(&format!("step {step} · {prompt}\n  {}", text.trim_end()))
            }
            Event::Saved { .. } => {}
            Event::Ended { step, reason, skipped } => {
                let why = match reason {
                    Reason::Done => "done",
                    Reason::EarlyStop => "stopped early: the held-out loss did not get better",
                    Reason::Interrupted => "interrupted; --resume goes on",
                };
                let skipped = if *skipped > 0 { format!(", {skipped} skipped") } else { String::new() };
                self.line(&format!("{why} after step {step}{skipped}"));
            }
        }
    }

    fn draw(&mut self, event: &Event) {
        let Some(scalars) = &mut self.scalars else { return };
        let curves: Vec<(&str, usize, f64)> = match event {
            Event::Step { step, loss, norm, rate, tokens_per_second, .. } => {
                let finite = [("train/loss", loss), ("train/gradient_norm", norm)];
                let finite = finite.into_iter().filter_map(|(name, value)| Some((name, *step, (*value)?)));
                finite
                    .chain([
                        ("train/learning_rate", *step, *rate),
                        ("train/tokens_per_second", *step, *tokens_per_second),
                    ])
                    .collect()
            }
            Event::Evaluated { step, found } => {
                let right = found.right.map(|right| ("held_out/right", *step, right));
                [("held_out/loss", *step, found.loss)].into_iter().chain(right).collect()
            }
            _ => return,
        };
        let put = curves.into_iter().try_for_each(|(name, step, value)| scalars.put(name, step, value));
        if let Err(fault) = put {
            self.scalars = None;
            self.line(&format!("note: no more events for TensorBoard: {fault}"));
        }
    }
}

impl Page {
    fn add(&mut self, event: &Event) {
        match event {
            Event::Step { loss, norm, rate, .. } => {
                let [loss, norm] = [loss, norm].map(|value| value.unwrap_or(f64::NAN));
                self.log.push(Point { loss, norm, rate: *rate, tokens: 0.0 });
            }
            Event::Evaluated { step, found } => {
                self.evaluations.push((*step, *found));
                self.write();
            }
            Event::Sample { .. } | Event::Note { .. } => self.events.push(event.clone()),
            _ => {}
        }
    }

    /// A page that cannot be written is no reason to stop.
    fn write(&self) {
        let Page { file, title, plan, log, evaluations, events } = self;
        let page = report::page(&Shown { title, plan, log, evaluations, events });
        drop(durable::write_file(file, |sink| sink.put(page.as_bytes())));
    }
}
