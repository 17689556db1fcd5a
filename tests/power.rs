//! A disk for tests that remembers what was asked of it and shows every state that a loss of power may leave: content
//! that was not synced is there, gone, or torn at pages of 4 KiB; a name that was not synced is there or not, whatever
//! came after it. It works in a folder of its own, so that code which also reads sees what it wrote.
#![allow(dead_code, clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use pasture_files::durable::{Disk, Fs, Output};

/// A page: what a disk writes whole.
pub const PAGE: usize = 4096;

#[derive(Clone, Debug)]
enum Event {
    Create {
        file: usize,
        path: PathBuf,
    },
    Write {
        file: usize,
        bytes: Vec<u8>,
    },
    SyncFile {
        file: usize,
    },
    SyncPath {
        path: PathBuf,
    },
    /// `moved`: what stood below `from` at that moment, whichever of it a loss of power would otherwise leave out.
    Rename {
        from: PathBuf,
        to: PathBuf,
        moved: Vec<(PathBuf, Entry)>,
    },
    Remove {
        path: PathBuf,
    },
    Folder {
        path: PathBuf,
    },
    Link {
        path: PathBuf,
        target: PathBuf,
    },
    SyncFolder {
        path: PathBuf,
    },
}

#[derive(Default)]
struct Log {
    files: usize,
    events: Vec<Event>,
}

/// The recording disk.
pub struct Recorder {
    root: PathBuf,
    log: Arc<Mutex<Log>>,
}

struct Recorded {
    file: usize,
    real: Box<dyn Output>,
    log: Arc<Mutex<Log>>,
}

impl Write for Recorded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.real.write(bytes)?;
        let event = Event::Write { file: self.file, bytes: bytes[..count].to_vec() };
        self.log.lock().unwrap().events.push(event);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.real.flush()
    }
}

impl Output for Recorded {
    fn sync(&mut self) -> io::Result<()> {
        self.log.lock().unwrap().events.push(Event::SyncFile { file: self.file });
        Ok(())
    }
}

impl Fs for Recorder {
    fn create_new(&self, path: &Path) -> io::Result<Box<dyn Output>> {
        let real = Disk.create_new(path)?;
        let mut log = self.log.lock().unwrap();
        let file = log.files;
        log.files += 1;
        log.events.push(Event::Create { file, path: self.inside(path) });
        Ok(Box::new(Recorded { file, real, log: self.log.clone() }))
    }

    fn sync_file(&self, path: &Path) -> io::Result<()> {
        self.note(Event::SyncPath { path: self.inside(path) });
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        Disk.rename(from, to)?;
        self.note(Event::Rename { from: self.inside(from), to: self.inside(to), moved: Vec::new() });
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        Disk.remove(path)?;
        self.note(Event::Remove { path: self.inside(path) });
        Ok(())
    }

    fn create_folder(&self, path: &Path) -> io::Result<()> {
        Disk.create_folder(path)?;
        self.note(Event::Folder { path: self.inside(path) });
        Ok(())
    }

    fn remove_folder(&self, path: &Path) -> io::Result<()> {
        Disk.remove_folder(path)?;
        self.note(Event::Remove { path: self.inside(path) });
        Ok(())
    }

    fn link(&self, target: &Path, path: &Path) -> io::Result<()> {
        Disk.link(target, path)?;
        self.note(Event::Link { path: self.inside(path), target: target.to_owned() });
        Ok(())
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        self.note(Event::SyncFolder { path: self.inside(folder) });
        Ok(())
    }
}

/// What a name stands for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Entry {
    /// A file, by its number.
    File(usize),
    /// A folder.
    Folder,
    /// A link.
    Link(PathBuf),
}

/// Names and contents after power came back: files as their bytes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct State {
    /// Paths below the root.
    pub files: BTreeMap<PathBuf, Vec<u8>>,
    /// Paths below the root, with where they lead.
    pub links: BTreeMap<PathBuf, PathBuf>,
    /// Paths below the root.
    pub folders: BTreeSet<PathBuf>,
}

impl State {
    /// Puts the state into an empty folder.
    pub fn put(&self, root: &Path) {
        self.folders.iter().for_each(|path| std::fs::create_dir_all(root.join(path)).unwrap());
        for (path, bytes) in &self.files {
            std::fs::create_dir_all(root.join(path).parent().unwrap()).unwrap();
            std::fs::write(root.join(path), bytes).unwrap();
        }
        for (path, target) in &self.links {
            std::fs::create_dir_all(root.join(path).parent().unwrap()).unwrap();
            #[cfg(unix)]
            std::os::unix::fs::symlink(target, root.join(path)).unwrap();
        }
    }
}

/// A change of names that is not synced yet.
type Pending = Event;

/// The disk at one moment: what is safe, and what is not yet.
#[derive(Clone, Default)]
struct Moment {
    names: BTreeMap<PathBuf, Entry>,
    safe: BTreeMap<usize, Vec<u8>>,
    latest: BTreeMap<usize, Vec<u8>>,
    now: BTreeMap<PathBuf, Entry>,
    pending: Vec<Pending>,
}

impl Recorder {
    /// A disk in `root`, whose content so far is safe.
    pub fn new(root: &Path) -> Recorder {
        let log = Arc::new(Mutex::new(Log::default()));
        let recorder = Recorder { root: root.to_owned(), log };
        let mut open = vec![root.to_owned()];
        while let Some(folder) = open.pop() {
            for entry in std::fs::read_dir(folder).unwrap().flatten() {
                let (path, kind) = (entry.path(), entry.file_type().unwrap());
                let inside = recorder.inside(&path);
                if kind.is_dir() {
                    recorder.note(Event::Folder { path: inside.clone() });
                    open.push(path);
                } else if kind.is_symlink() {
                    recorder.note(Event::Link { path: inside.clone(), target: std::fs::read_link(&path).unwrap() });
                } else {
                    let file = {
                        let mut log = recorder.log.lock().unwrap();
                        log.files += 1;
                        log.files - 1
                    };
                    recorder.note(Event::Create { file, path: inside.clone() });
                    recorder.note(Event::Write { file, bytes: std::fs::read(&path).unwrap() });
                    recorder.note(Event::SyncFile { file });
                }
                recorder.note(Event::SyncFolder { path: inside.parent().unwrap().to_owned() });
            }
        }
        recorder
    }

    /// Events so far: states before them are of no interest to a test that starts here.
    pub fn events(&self) -> usize {
        self.log.lock().unwrap().events.len()
    }

    fn inside(&self, path: &Path) -> PathBuf {
        path.strip_prefix(&self.root).unwrap_or(path).to_owned()
    }

    fn note(&self, event: Event) {
        self.log.lock().unwrap().events.push(event);
    }

    /// Every state that a loss of power may leave at any moment from event `first` on.
    pub fn states(&self, first: usize) -> BTreeSet<State> {
        let events = self.log.lock().unwrap().events.clone();
        let mut moment = Moment::default();
        let mut states = BTreeSet::new();
        for (number, event) in events.iter().enumerate() {
            moment.apply(event);
            if number + 1 >= first {
                moment.add_states(&mut states);
            }
        }
        states
    }
}

impl Moment {
    fn apply(&mut self, event: &Event) {
        match event {
            Event::Create { file, .. } => {
                self.safe.insert(*file, Vec::new());
                self.latest.insert(*file, Vec::new());
            }
            Event::Write { file, bytes } => self.latest.get_mut(file).unwrap().extend(bytes),
            Event::SyncFile { file } => {
                self.safe.insert(*file, self.latest[file].clone());
            }
            Event::SyncPath { path } => {
                if let Some(Entry::File(file)) = self.now.get(path) {
                    self.safe.insert(*file, self.latest[file].clone());
                }
            }
            Event::SyncFolder { path } => {
                let of_folder = |event: &Pending| places(event).contains(&path.as_path());
                let (synced, pending) = std::mem::take(&mut self.pending).into_iter().partition(of_folder);
                self.pending = pending;
                let synced: Vec<Pending> = synced;
                synced.iter().for_each(|event| change(&mut self.names, event));
            }
            _ => {}
        }
        if !places(event).is_empty() {
            let mut event = event.clone();
            if let Event::Rename { from, moved, .. } = &mut event {
                let below = self.now.iter().filter(|(name, _)| name.starts_with(&*from));
                *moved = below.map(|(name, entry)| (name.clone(), entry.clone())).collect();
            }
            change(&mut self.now, &event);
            self.pending.push(event);
        }
    }

    fn add_states(&self, states: &mut BTreeSet<State>) {
        let count = self.pending.len();
        let mut kept: BTreeSet<Vec<bool>> = BTreeSet::new();
        for number in 0..=count {
            // In order, all but one, only one.
            kept.insert((0..count).map(|at| at < number).collect());
            kept.insert((0..count).map(|at| at != number).collect());
            kept.insert((0..count).map(|at| at == number).collect());
        }
        for kept in kept {
            let mut names = self.names.clone();
            let chosen = self.pending.iter().zip(&kept).filter(|(_, kept)| **kept);
            chosen.for_each(|(event, _)| change(&mut names, event));
            for content in self.contents() {
                states.insert(state(&names, &content));
            }
        }
    }

    /// Contents by file: of those that are not synced all are gone, all are there, or one is torn at some page.
    fn contents(&self) -> Vec<BTreeMap<usize, Vec<u8>>> {
        let mut all = vec![self.safe.clone(), self.latest.clone()];
        let open = self.latest.iter().filter(|(file, bytes)| self.safe[*file] != **bytes);
        for (file, bytes) in open {
            for page in 0..bytes.len() / PAGE {
                let mut torn = bytes.clone();
                torn[page * PAGE..(page + 1) * PAGE].fill(0);
                let mut cut = bytes.clone();
                cut.truncate(page * PAGE);
                for one in [torn, cut] {
                    let mut content = self.latest.clone();
                    content.insert(*file, one);
                    all.push(content);
                }
            }
        }
        all
    }
}

/// The folders whose names an event changes.
fn places(event: &Event) -> Vec<&Path> {
    match event {
        Event::Create { path, .. } | Event::Remove { path } | Event::Folder { path } | Event::Link { path, .. } => {
            path.parent().into_iter().collect()
        }
        Event::Rename { from, to, .. } => from.parent().into_iter().chain(to.parent()).collect(),
        _ => Vec::new(),
    }
}

fn change(names: &mut BTreeMap<PathBuf, Entry>, event: &Event) {
    match event {
        Event::Create { file, path } => drop(names.insert(path.clone(), Entry::File(*file))),
        Event::Folder { path } => drop(names.insert(path.clone(), Entry::Folder)),
        Event::Link { path, target } => drop(names.insert(path.clone(), Entry::Link(target.clone()))),
        Event::Remove { path } => names.retain(|name, _| !name.starts_with(path)),
        Event::Rename { from, to, moved } => {
            names.retain(|name, _| !name.starts_with(from) && !name.starts_with(to));
            for (name, entry) in moved {
                let rest = name.strip_prefix(from).unwrap();
                names.insert(if rest == Path::new("") { to.clone() } else { to.join(rest) }, entry.clone());
            }
        }
        _ => {}
    }
}

fn state(names: &BTreeMap<PathBuf, Entry>, content: &BTreeMap<usize, Vec<u8>>) -> State {
    let mut state = State { files: BTreeMap::new(), links: BTreeMap::new(), folders: BTreeSet::new() };
    // A name in a folder whose own name was lost is lost with it.
    let reachable = |path: &Path| {
        path.ancestors()
            .skip(1)
            .filter(|up| *up != Path::new(""))
            .all(|up| matches!(names.get(up), Some(Entry::Folder)))
    };
    for (path, entry) in names.iter().filter(|(path, _)| reachable(path)) {
        match entry {
            Entry::File(file) => drop(state.files.insert(path.clone(), content[file].clone())),
            Entry::Link(target) => drop(state.links.insert(path.clone(), target.clone())),
            Entry::Folder => drop(state.folders.insert(path.clone())),
        }
    }
    state
}
