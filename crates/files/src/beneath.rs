//! Opening a file beneath a folder: whatever a path inside says, and whatever became a link since somebody looked, the
//! system itself refuses to leave the folder (`openat2` with `RESOLVE_BENEATH`; one step at a time without following
//! links where a kernel does not have that).
#![forbid(unsafe_code)]

use std::fs::File;
use std::io;
use std::path::{Component, Path};

/// Opens a file to be read, without waiting for pipes. `inside` is relative, and no part of it may be a link.
///
/// # Errors
/// The system's; `InvalidInput` for a path that is not relative or climbs.
pub fn open(root: &Path, inside: &Path) -> io::Result<File> {
    let plain = inside.components().all(|part| matches!(part, Component::Normal(_)));
    if !plain || inside.as_os_str().is_empty() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "the path leads out of its folder"));
    }
    at(&File::open(root)?, inside)
}

#[cfg(target_os = "linux")]
fn at(root: &File, inside: &Path) -> io::Result<File> {
    use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
    use rustix::io::Errno;
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOFOLLOW;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    match openat2(root, inside, flags, Mode::empty(), resolve) {
        Ok(file) => Ok(File::from(file)),
        // Older kernels, and sandboxes that do not know the call.
        Err(Errno::NOSYS | Errno::PERM) => step_by_step(root, inside),
        Err(fault) => Err(fault.into()),
    }
}

#[cfg(all(unix, not(target_os = "linux")))]
fn at(root: &File, inside: &Path) -> io::Result<File> {
    step_by_step(root, inside)
}

#[cfg(unix)]
fn step_by_step(root: &File, inside: &Path) -> io::Result<File> {
    use rustix::fs::{Mode, OFlags, openat};
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOFOLLOW;
    let mut at = root.try_clone()?;
    for part in inside {
        at = File::from(openat(&at, part, flags, Mode::empty())?);
    }
    Ok(at)
}

/// Without handles of folders only the names were checked.
#[cfg(not(unix))]
fn at(_: &File, _: &Path) -> io::Result<File> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(all(test, unix))]
mod tests {
    use std::fs;
    use std::io::Read;
    use std::os::unix::fs::symlink;

    use super::*;

    fn content(opened: io::Result<File>) -> Option<String> {
        let mut text = String::new();
        opened.ok()?.read_to_string(&mut text).ok()?;
        Some(text)
    }

    #[test]
    fn no_link_and_no_path_leaves_the_folder() {
        let top = tempfile::tempdir().unwrap();
        let root = top.path().join("root");
        fs::create_dir_all(root.join("a/b")).unwrap();
        fs::write(root.join("a/b/good"), "good").unwrap();
        fs::write(top.path().join("secret"), "secret").unwrap();
        symlink("../secret", root.join("link_outside")).unwrap();
        symlink(top.path().join("secret"), root.join("link_absolute")).unwrap();
        symlink("../..", root.join("a/link_up")).unwrap();
        symlink("link_self", root.join("link_self")).unwrap();
        for way in
            [open as fn(&Path, &Path) -> io::Result<File>, |root, inside| step_by_step(&File::open(root)?, inside)]
        {
            assert_eq!(content(way(&root, Path::new("a/b/good"))).as_deref(), Some("good"));
            for bad in ["link_outside", "link_absolute", "a/link_up/secret", "link_self", "absent"] {
                assert_eq!(content(way(&root, Path::new(bad))), None, "{bad}");
            }
        }
        for bad in ["../secret", "a/../../secret", "/etc/hostname", "", "."] {
            assert!(open(&root, Path::new(bad)).is_err(), "{bad}");
        }
    }
}
