//! A whole file as samples, with what was recognized, counted and left out. Rows are read one by one: of the text
//! nothing stays but its digest.
#![forbid(unsafe_code)]

use std::path::Path;

use pasture_files::data::{self, Layout};
use pasture_files::error::file_name;
use pasture_files::prompt::Prompt;
use pasture_files::prompt::template::Moment;
use serde::Serialize;

use super::encode::{Encoder, Piece};
use super::error::{Error, Result};
use super::fingerprint::{Digests, Fingerprint, fingerprint};
use super::options::{Options, Prompts};
use super::sample::{Example, Judged, Preference, Sample};
use super::split::{Key, held_out};

/// Rows that were left out and are told one by one.
const SKIPPED_MAX: usize = 100;

/// Samples of one kind: all rows of a file have one layout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Samples {
    /// Texts to learn from.
    Examples(Vec<Example>),
    /// Pairs of answers.
    Preferences(Vec<Preference>),
    /// Answers that are wanted or not.
    Judged(Vec<Judged>),
}

/// The samples of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dataset {
    /// The samples, in the order of the file.
    pub samples: Samples,
    /// For each sample what decides whether it is held out.
    keys: Vec<Key>,
    /// What was found in the file.
    pub facts: Facts,
}

/// What was found in a file of data.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Facts {
    /// Name of the file, without its folder.
    pub file: String,
    /// The layout by the word of `--kind`.
    pub kind: String,
    /// What was recognized and why, in words.
    pub recognized: String,
    /// Rows that are learned from.
    pub rows: usize,
    /// Rows that were left out.
    pub skipped: usize,
    /// Of the first rows that were left out: what is wrong with them.
    pub reasons: Vec<String>,
    /// Columns without an effect.
    pub unused: Vec<String>,
    /// Digest of the rows in their order.
    pub digest: String,
    /// Digest of the rows in any order.
    pub digest_unordered: String,
}

/// Counts of tokens in samples.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// How many samples there are.
    pub samples: usize,
    /// Tokens of all.
    pub tokens: u64,
    /// Tokens that are learned.
    pub trained: u64,
    /// Tokens of the shortest.
    pub shortest: usize,
    /// Half of the samples have no more tokens than this.
    pub median: usize,
    /// 95 of 100 samples have no more tokens than this.
    pub most: usize,
    /// Tokens of the longest.
    pub longest: usize,
}

/// Lengths of samples that are not kept.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    lengths: Vec<usize>,
    trained: u64,
}

impl Tally {
    pub(super) fn add(&mut self, sample: &Sample) {
        let (length, trained) = match sample {
            Sample::Example(example) => (example.ids.len(), example.targets()),
            Sample::Preference(pair) => (pair.tokens(), pair.chosen.len() + pair.rejected.len()),
            Sample::Judged(judged) => (judged.prompt.len() + judged.completion.len(), judged.completion.len()),
        };
        self.lengths.push(length);
        self.trained += trained as u64;
    }

    pub(super) fn counts(mut self) -> Counts {
        self.lengths.sort_unstable();
        let lengths = &self.lengths;
        let at = |share: usize| lengths.get(lengths.len().saturating_sub(1) * share / 100).copied().unwrap_or(0);
        Counts {
            samples: lengths.len(),
            tokens: lengths.iter().map(|length| *length as u64).sum(),
            trained: self.trained,
            shortest: at(0),
            median: at(50),
            most: at(95),
            longest: at(100),
        }
    }
}

impl Samples {
    fn of(layout: Layout) -> Samples {
        match layout {
            Layout::Preference => Samples::Preferences(Vec::new()),
            Layout::Judged => Samples::Judged(Vec::new()),
            _ => Samples::Examples(Vec::new()),
        }
    }

    fn push(&mut self, sample: Sample) {
        match (self, sample) {
            (Samples::Examples(list), Sample::Example(sample)) => list.push(sample),
            (Samples::Preferences(list), Sample::Preference(sample)) => list.push(sample),
            (Samples::Judged(list), Sample::Judged(sample)) => list.push(sample),
            _ => unreachable!("all rows of a file have one layout"),
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        match self {
            Samples::Examples(list) => list.len(),
            Samples::Preferences(list) => list.len(),
            Samples::Judged(list) => list.len(),
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Tokens that each sample brings into a batch; of two answers with their prompts, both.
    pub fn lengths(&self) -> Vec<usize> {
        match self {
            Samples::Examples(list) => list.iter().map(|sample| sample.ids.len()).collect(),
            Samples::Preferences(list) => list.iter().map(Preference::tokens).collect(),
            Samples::Judged(list) => list.iter().map(|sample| sample.prompt.len() + sample.completion.len()).collect(),
        }
    }

    /// Counts of their tokens.
    pub fn counts(&self) -> Counts {
        let trained: usize = match self {
            Samples::Examples(list) => list.iter().map(Example::targets).sum(),
            Samples::Preferences(list) => list.iter().map(|pair| pair.chosen.len() + pair.rejected.len()).sum(),
            Samples::Judged(list) => list.iter().map(|sample| sample.completion.len()).sum(),
        };
        Tally { lengths: self.lengths(), trained: trained as u64 }.counts()
    }

    fn parted(self, held: &[bool]) -> [Samples; 2] {
        fn part<T>(list: Vec<T>, held: &[bool]) -> [Vec<T>; 2] {
            let (mut kept, mut out) = (Vec::new(), Vec::new());
            for (sample, held) in list.into_iter().zip(held) {
                if *held { &mut out } else { &mut kept }.push(sample);
            }
            [kept, out]
        }
        match self {
            Samples::Examples(list) => part(list, held).map(Samples::Examples),
            Samples::Preferences(list) => part(list, held).map(Samples::Preferences),
            Samples::Judged(list) => part(list, held).map(Samples::Judged),
        }
    }
}

impl Dataset {
    /// Reads a file for a model; `progress` is told how many rows were read.
    ///
    /// # Errors
    /// At the first row that cannot be learned from, unless such rows are to be left out; where nothing is left; where
    /// an option would have no effect.
    pub fn read(path: &Path, prompt: &Prompt, options: &Options, progress: &mut dyn FnMut(usize)) -> Result<Dataset> {
        let mut reader = Reader::open(path, prompt, options)?;
        let file = file_name(path);
        let (mut samples, mut keys, mut digests) = (None, Vec::new(), Digests::default());
        let (mut rows, mut skipped, mut reasons) = (0, 0, Vec::new());
        while let Some(row) = reader.next() {
            let read = match row {
                Ok(read) => read,
                Err(fault) => {
                    let bad = matches!(fault, Error::Sample { .. } | Error::Rows(_));
                    if !(options.skip_bad && bad && reader.go_on()) {
                        return Err(fault);
                    }
                    skipped += 1;
                    if reasons.len() < SKIPPED_MAX {
                        reasons.push(fault.to_string());
                    }
                    continue;
                }
            };
            rows += 1;
            digests.add(&read.fingerprint);
            let list = samples.get_or_insert_with(|| Samples::of(read.layout));
            for (piece, sample) in read.samples.into_iter().enumerate() {
                keys.push(Key::new(&read.fingerprint, piece as u64));
                list.push(sample);
            }
            progress(rows);
        }
        let (Some(samples), Some(layout)) = (samples, reader.rows.layout()) else {
            let what = match skipped {
                0 => "it has no rows".to_owned(),
                count => format!("nothing is left: {count} rows are wrong; the first: {}", reasons.concat()),
            };
            return Err(Error::Nothing { file, what });
        };
        let facts = Facts {
            file,
            kind: layout.kind().to_owned(),
            recognized: recognized(layout, options, Some(prompt)),
            rows,
            skipped,
            reasons,
            unused: reader.rows.unused().to_vec(),
            digest: digests.ordered(),
            digest_unordered: digests.unordered(),
        };
        Ok(Dataset { samples, keys, facts })
    }

    /// Parts the samples: those to learn from, and those held out, about `share` of them. Which are held out is decided by
    /// seed and content alone, so that it does not change with the order or with rows that are added; equal rows stay
    /// together. Where there are two samples or more, both parts have one.
    pub fn split(self, share: f64, seed: u64) -> (Samples, Samples) {
        let held = held_out(&self.keys, share, seed);
        let [kept, out] = self.samples.parted(&held);
        (kept, out)
    }
}

/// What was recognized and why, and how a model takes it, where one is known.
pub fn recognized(layout: Layout, options: &Options, prompt: Option<&Prompt>) -> String {
    let fields: Vec<String> = layout.fields().iter().map(|field| format!("{field:?}")).collect();
    let why = match options.kind {
        Some(_) => "as --kind says".to_owned(),
        None => format!("its rows have {}", fields.join(" and ")),
    };
    let asked = matches!(layout, Layout::Pair | Layout::Preference | Layout::Judged);
    let way = match prompt.filter(|_| asked && options.prompts == Prompts::Auto).map(Prompt::has_template) {
        Some(true) => "; texts are a user's turn and the answer (--prompts raw: text that goes on)",
        Some(false) => "; texts go on as text, for the model has no chat template",
        None => "",
    };
    format!("{} ({why}){way}", layout.name())
}

/// A row with its samples.
pub struct Read {
    /// The line at which it begins, or its number.
    pub line: usize,
    /// Its layout.
    pub layout: Layout,
    /// Its digest.
    pub fingerprint: Fingerprint,
    /// What it became: nothing where its weight is 0.
    pub samples: Vec<Sample>,
}

/// Reads rows for a model, one after the other.
pub struct Reader<'p> {
    rows: data::Rows,
    ahead: Option<data::Result<data::Row>>,
    prompt: &'p Prompt,
    options: Options,
    file: String,
    started: bool,
}

impl<'p> Reader<'p> {
    /// Opens a file.
    ///
    /// # Errors
    /// When it cannot be read, or the model has no tokenizer.
    pub fn open(path: &Path, prompt: &'p Prompt, options: &Options) -> Result<Reader<'p>> {
        let tokenizer = prompt.tokenizer().ok_or(pasture_files::prompt::Error::NoTokenizer)?;
        let vocabulary = options.vocabulary.or(u32::try_from(tokenizer.len()).ok());
        let rows = data::open(path, data::Options { vocabulary, layout: options.kind })?;
        // One day for all rows, so that a run at midnight has one prompt.
        let options = Options { now: options.now.or_else(|| Some(Moment::now())), ..options.clone() };
        Ok(Reader { rows, ahead: None, prompt, options, file: file_name(path), started: false })
    }

    /// Goes on behind a row that is wrong; false where what follows cannot be told from it.
    pub fn go_on(&mut self) -> bool {
        self.ahead.is_some() || self.rows.go_on()
    }

    /// The rows as they are read.
    pub fn rows(&self) -> &data::Rows {
        &self.rows
    }

    fn row(&mut self) -> Option<data::Result<data::Row>> {
        self.ahead.take().or_else(|| self.rows.next())
    }

    fn read(&mut self, row: data::Row) -> Result<Read> {
        let layout = row.content.layout();
        let first = !std::mem::replace(&mut self.started, true);
        if first {
            self.options.apply_to(layout)?;
        }
        let piece = match self.rows.is_plain_text() {
            true => {
                self.ahead = self.rows.next();
                Piece { first, last: self.ahead.is_none() }
            }
            false => Piece::WHOLE,
        };
        let made = match row.weight {
            Some(0.0) => Ok(Vec::new()),
            None | Some(1.0) => Encoder::new(self.prompt, &self.options)
                .ok_or(Error::Prompt(pasture_files::prompt::Error::NoTokenizer))?
                .samples(&row.content, piece),
            Some(weight) => Err(format!("its \"weight\" is {weight}; 0 and 1 are known in training")),
        };
        let place = place(&self.rows, row.line);
        let samples = made.map_err(|what| Error::Sample { file: self.file.clone(), place, what })?;
        Ok(Read { line: row.line, layout, fingerprint: fingerprint(&row.content), samples })
    }
}

impl Iterator for Reader<'_> {
    type Item = Result<Read>;

    fn next(&mut self) -> Option<Result<Read>> {
        let row = self.row()?;
        Some(row.map_err(Error::from).and_then(|row| self.read(row)))
    }
}

/// How a row is named.
pub(super) fn place(rows: &data::Rows, line: usize) -> String {
    format!("{} {line}", if rows.is_numbered() { "row" } else { "line" })
}
