//! What takes how much room: by place, each file once though it has several names.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use crate::environment::Environment;
use crate::error::Result;
use crate::{Origin, gc, list_in, packed};

/// A place's use of the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Whose it is.
    pub origin: Origin,
    /// Where it is.
    pub path: PathBuf,
    /// Models that are listed there.
    pub models: usize,
    /// Bytes that its files take on the disk; a file that an earlier place has is not counted again.
    pub bytes: u64,
    /// Bytes of leftovers of whatever age.
    pub leftovers: u64,
}

/// The use of every place that is there; Pasture's own folders come first, that of packed weights behind that of data.
///
/// # Errors
/// When the ledger or a repository cannot be read.
pub fn usage(environment: &Environment) -> Result<Vec<Usage>> {
    let found = list_in(environment)?;
    let leftovers = gc::leftovers(environment, Duration::ZERO)?;
    let mut known = BTreeSet::new();
    let own = environment.data().map(|path| (Origin::Own, path.to_owned()));
    let places = environment.places().into_iter().map(|place| (place.origin, place.path));
    let packed_at = packed::folder(environment);
    let packed = packed_at.clone().map(|path| (Origin::Own, path));
    let there = own.into_iter().chain(packed).chain(places).filter(|(_, path)| path.is_dir());
    let one = |(origin, path): (Origin, PathBuf)| {
        let models = found.iter().filter(|found| found.origin == origin);
        // A name of one's own may stand for files anywhere.
        let models = match packed_at.as_ref() == Some(&path) {
            true => packed::list(environment).len(),
            false => models.filter(|found| origin == Origin::Own || found.path.starts_with(&path)).count(),
        };
        let bytes = gc::allocated(&path, &mut known);
        Usage { origin, models, bytes, leftovers: gc::bytes_below(&leftovers, &path), path }
    };
    Ok(there.map(one).collect())
}
