//! A model that is measured: its decoder, its tokenizer, and an adapter beside its weights. Forwards of several sequences
//! at once, and logits of chosen rows only: `[tokens, vocabulary]` is never held whole.

use std::sync::Arc;

use pasture_engine::RopeRule;
use pasture_files::tokenizer::{Shown, Specials, Tokenizer};
use pasture_model::{Batch, Decoder, Kv, SequenceId};
use pasture_tensor::kv::KvFormat;
use pasture_tensor::{Adapter, Ops, Tensor};

use super::error::{Error, Result};

/// Rows of one forward.
pub(crate) const ROWS: usize = 512;

/// Logits that are held at once.
const LOGITS: usize = 1 << 22;

/// A model that is measured. Clones share the weights.
#[derive(Clone)]
pub struct Subject {
    decoder: Arc<Decoder>,
    tokenizer: Option<Tokenizer>,
    kv: KvFormat,
    adapter: Option<Arc<Adapter>>,
    context: usize,
}

/// Rows of one sequence to run, and which of them have logits that are wanted.
pub(crate) struct Piece {
    pub(crate) sequence: SequenceId,
    pub(crate) start: usize,
    pub(crate) rope_len: usize,
    pub(crate) ids: Vec<u32>,
    /// Rows of the piece, ascending.
    pub(crate) wanted: Vec<usize>,
}

impl Subject {
    /// A model with the format of its keys and values. Without a tokenizer it is measured on token ids only.
    pub fn new(decoder: Arc<Decoder>, tokenizer: Option<Tokenizer>, kv: KvFormat) -> Subject {
        let spec = decoder.spec();
        let context = RopeRule::of(spec).context(spec.context);
        Subject { decoder, tokenizer, kv, adapter: None, context }
    }

    /// The model with an adapter beside its weights.
    #[must_use]
    pub fn with_adapter(mut self, adapter: Arc<Adapter>) -> Subject {
        self.adapter = Some(adapter);
        self
    }

    /// The model with a shorter context.
    #[must_use]
    pub fn with_context(mut self, context: usize) -> Subject {
        self.context = context.clamp(1, self.context);
        self
    }

    /// Positions that a sequence may have.
    pub fn context(&self) -> usize {
        self.context
    }

    /// Entries of the vocabulary.
    pub fn vocab(&self) -> usize {
        self.decoder.spec().vocab
    }

    /// The weights.
    pub fn decoder(&self) -> &Arc<Decoder> {
        &self.decoder
    }

    /// The adapter beside the weights.
    pub fn adapter(&self) -> Option<&Arc<Adapter>> {
        self.adapter.as_ref()
    }

    /// How keys and values are stored.
    pub fn kv_format(&self) -> KvFormat {
        self.kv
    }

    /// The tokenizer.
    ///
    /// # Errors
    /// When the model came without one.
    pub fn tokenizer(&self) -> Result<&Tokenizer> {
        self.tokenizer.as_ref().ok_or(Error::NoTokenizer)
    }

    /// The ids of a text with what the tokenizer puts around it, unless the text spells the begin token itself.
    pub(crate) fn encode(&self, text: &str) -> Result<Vec<u32>> {
        let tokenizer = self.tokenizer()?;
        let begin = self.prefix()?.map(|id| tokenizer.decode(&[id], Shown::Show)).transpose()?;
        let has_begin = begin.is_some_and(|begin| !begin.is_empty() && text.starts_with(&begin));
        Ok(match has_begin {
            true => tokenizer.encode(text, Specials::Parse)?,
            false => tokenizer.encode_with_special(text, Specials::Parse)?,
        })
    }

    /// The tokens of a text as they are scored, and the token that stands before them.
    ///
    /// # Errors
    /// When the model came without a tokenizer, or it refuses the text.
    pub fn text_ids(&self, text: &str) -> Result<(Vec<u32>, u32)> {
        let ids = self.encode(text)?;
        let prefix = self.prefix()?.or(ids.first().copied()).unwrap_or(0);
        Ok((ids, prefix))
    }

    /// What stands before a text that has nothing before it: the begin token, else the end token.
    pub(crate) fn prefix(&self) -> Result<Option<u32>> {
        let tokenizer = self.tokenizer()?;
        Ok(tokenizer.bos().or(tokenizer.eos()))
    }

    /// Whether the angles of a row do not depend on the length of its sequence, so that sequences share a beginning.
    pub(crate) fn shares(&self) -> bool {
        RopeRule::of(self.decoder.spec()) == RopeRule::Fixed
    }

    /// Memory for keys and values.
    pub(crate) fn memory(&self) -> Kv {
        self.decoder.kv(&**self.decoder.backend(), self.kv)
    }

    /// Runs pieces, several in one forward, and gives `each` the logits of the wanted rows: the piece, the row in it.
    pub(crate) fn run(&self, pieces: &[Piece], kv: &mut Kv, each: &mut dyn FnMut(usize, usize, &[f32])) -> Result<()> {
        let mut batch = Batch::default();
        let mut wanted: Vec<(u32, usize, usize)> = Vec::new();
        for (number, piece) in pieces.iter().enumerate() {
            let mut done = 0;
            while done < piece.ids.len() {
                let room = ROWS - batch.ids.len();
                let count = room.min(piece.ids.len() - done);
                let first = batch.ids.len();
                let rows = piece.wanted.iter().filter(|row| (done..done + count).contains(*row));
                wanted.extend(rows.map(|row| ((first + row - done) as u32, number, *row)));
                let ids = &piece.ids[done..done + count];
                batch.push(piece.sequence, piece.start + done, piece.rope_len, ids, self.adapter.clone());
                done += count;
                if batch.ids.len() == ROWS {
                    self.flush(&mut batch, kv, &mut wanted, each)?;
                }
            }
        }
        self.flush(&mut batch, kv, &mut wanted, each)
    }

    fn flush(
        &self,
        batch: &mut Batch,
        kv: &mut Kv,
        wanted: &mut Vec<(u32, usize, usize)>,
        each: &mut dyn FnMut(usize, usize, &[f32]),
    ) -> Result<()> {
        if batch.ids.is_empty() {
            return Ok(());
        }
        let hidden = self.hidden(&std::mem::take(batch), kv)?;
        for part in wanted.chunks(self.logits_rows()) {
            let rows: Vec<u32> = part.iter().map(|(row, _, _)| *row).collect();
            let logits = self.logits(&hidden, &rows)?;
            for (values, (_, piece, row)) in logits.chunks(self.vocab()).zip(part) {
                each(*piece, *row, values);
            }
        }
        wanted.clear();
        Ok(())
    }

    /// Rows whose logits are held at once.
    pub(crate) fn logits_rows(&self) -> usize {
        (LOGITS / self.vocab()).max(1)
    }

    /// The last hidden rows of a batch.
    pub(crate) fn hidden(&self, batch: &Batch, kv: &mut Kv) -> Result<Tensor> {
        let backend = self.decoder.backend().clone();
        Ok(self.decoder.forward(&mut Ops::new(&*backend), batch, kv)?.rows)
    }

    /// Logits of chosen hidden rows, in the host's memory, one row after the other.
    pub(crate) fn logits(&self, hidden: &Tensor, rows: &[u32]) -> Result<Vec<f32>> {
        let backend = self.decoder.backend().clone();
        let mut ops = Ops::new(&*backend);
        let asked = ops.gather(hidden, rows);
        let logits = self.decoder.logits(&mut ops, &asked)?;
        Ok(backend.download(&logits))
    }
}
