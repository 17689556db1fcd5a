//! Answers of the model as it is, while it is trained: the most probable token each time, without the engine, whose
//! thread holds weights that do not change.

use pasture_files::prompt::{Conversation, Message, Prompt, Role};
use pasture_files::tokenizer::Specials;
use pasture_model::Batch;
use pasture_tensor::Ops;
use pasture_tensor::kv::KvFormat;

use super::pass::Pass;

/// Who answers questions.
pub trait Voice {
    /// Each question with its answer, or why there is none.
    fn answers(&self, pass: &Pass) -> Vec<(String, Result<String, String>)>;
}

/// Questions put with a model's own prompt object.
pub struct Questions<'q> {
    /// Template, tokenizer and stop rules.
    pub prompt: &'q Prompt,
    /// The questions.
    pub texts: Vec<String>,
    /// Tokens of an answer at most.
    pub tokens: usize,
}

impl Voice for Questions<'_> {
    fn answers(&self, pass: &Pass) -> Vec<(String, Result<String, String>)> {
        self.texts.iter().map(|text| (text.clone(), self.answer(pass, text))).collect()
    }
}

impl Questions<'_> {
    fn answer(&self, pass: &Pass, text: &str) -> Result<String, String> {
        let tokenizer = self.prompt.tokenizer().ok_or("the model came without a tokenizer")?;
        let conversation = Conversation::to_answer(vec![Message::new(Role::User, text)]);
        let ids = match self.prompt.conversation(&conversation) {
            Ok(rendered) => rendered.ids,
            Err(pasture_files::prompt::Error::NoTemplate) => {
                tokenizer.encode_with_special(text, Specials::AsText).map_err(|fault| fault.to_string())?
            }
            Err(fault) => return Err(fault.to_string()),
        };
        let new = self.go_on(pass, &ids).map_err(|fault| fault.to_string())?;
        let mut stream = tokenizer.stream();
        ids.iter().for_each(|id| drop(stream.push(*id)));
        let mut answer: String = new.iter().map(|id| stream.push(*id)).collect();
        answer += &stream.finish();
        Ok(answer)
    }

    fn go_on(&self, pass: &Pass, ids: &[u32]) -> pasture_model::Result<Vec<u32>> {
        let context = pass.decoder.spec().context;
        let mut kv = pass.decoder.kv(pass.backend, KvFormat::F32);
        let (sequence, mut next, mut new) = (kv.start(), ids.to_vec(), Vec::new());
        let length = (ids.len() + self.tokens).min(context);
        while ids.len() + new.len() < length {
            let mut batch = Batch::default();
            batch.push(sequence, kv.len(sequence), length, &next, pass.adapter.cloned());
            let mut ops = Ops::new(pass.backend);
            let hidden = pass.decoder.forward(&mut ops, &batch, &mut kv)?;
            let last = ops.gather(&hidden.rows, &[next.len() as u32 - 1]);
            let logits = pass.decoder.logits(&mut ops, &last)?;
            let best = logits.values().iter().enumerate().max_by(|one, other| one.1.total_cmp(other.1));
            let id = best.map_or(0, |(id, _)| id as u32);
            if self.prompt.stop_ids().contains(&id) {
                break;
            }
            new.push(id);
            next = vec![id];
        }
        Ok(new)
    }
}
