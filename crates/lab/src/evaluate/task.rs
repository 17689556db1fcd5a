//! What is measured: rows of a task's file, each as a question with its choices or right answers, and how they become
//! prompts. Where the rows come from is in `forms`.

use super::error::{Error, Result};
use super::extract::Extract;
use super::forms::Form;
use super::python::Random;
use super::scorers::Scorer;

/// A task, ready to run.
#[derive(Clone, Debug)]
pub struct Task {
    /// Its name: the file's, or what the file says.
    pub name: String,
    /// The form of its rows.
    pub form: Form,
    /// What is asked.
    pub kind: Kind,
    /// Its rows.
    pub rows: Vec<Row>,
    /// Rows that worked examples are taken from; the task's own where absent.
    pub pool: Option<Vec<Row>>,
    /// Worked examples before each question.
    pub shots: usize,
    /// Which rows become worked examples.
    pub pick: Pick,
    /// Stands between a question and its answer.
    pub delimiter: String,
    /// Stands between worked examples.
    pub between: String,
}

/// What is asked of a model.
#[derive(Clone, Debug)]
pub enum Kind {
    /// Which of the choices is the most likely; the metric that decides is `acc` or `acc_norm`.
    Choice {
        /// The metric that decides a comparison.
        primary: &'static str,
    },
    /// To write an answer.
    Generate {
        /// Texts that end an answer.
        until: Vec<String>,
        /// New tokens at most.
        max_tokens: usize,
        /// Its metrics; the last one decides a comparison.
        measures: Vec<Measure>,
    },
    /// How likely a text is.
    Text,
}

/// A metric of generated answers.
#[derive(Clone, Debug)]
pub struct Measure {
    /// Its name.
    pub name: String,
    /// What of the text is the answer.
    pub extract: Extract,
    /// How it is scored.
    pub scorer: Scorer,
}

/// A row of a task.
#[derive(Clone, Debug, Default)]
pub struct Row {
    /// The line of its file, from 1.
    pub line: usize,
    /// Stands before everything.
    pub description: String,
    /// The question as the model sees it, or the text.
    pub query: String,
    /// The choices; none where an answer is written.
    pub choices: Vec<String>,
    /// The place of the right choice.
    pub gold: usize,
    /// The right answers where one is written; the first is shown in worked examples.
    pub right: Vec<String>,
}

/// Which rows become worked examples.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pick {
    /// The first ones.
    First,
    /// As Python's `random.Random(seed).sample` draws them, from row to row.
    Random(u64),
}

impl Row {
    /// The answer as a worked example shows it.
    fn shown(&self) -> &str {
        let answer = if self.choices.is_empty() { self.right.first() } else { self.choices.get(self.gold) };
        answer.map_or("", String::as_str)
    }

    /// Whether two rows ask and answer the same.
    fn same(&self, other: &Row) -> bool {
        let parts = |row: &Row| (row.query.clone(), row.choices.clone(), row.gold, row.right.clone());
        self.query == other.query && parts(self) == parts(other)
    }
}

impl Task {
    /// The task with so many worked examples.
    ///
    /// # Errors
    /// When its rows are texts.
    pub fn with_shots(mut self, shots: usize) -> Result<Task> {
        if matches!(self.kind, Kind::Text) {
            return Err(self.fault("its rows are texts, which have no worked examples"));
        }
        self.shots = shots;
        Ok(self)
    }

    /// The task with worked examples from another file's rows.
    ///
    /// # Errors
    /// When these have another form.
    pub fn with_pool(mut self, pool: Task) -> Result<Task> {
        if matches!(self.kind, Kind::Text) || pool.form != self.form {
            let what = format!("its form is {} and {:?} has {}", self.form.name(), pool.name, pool.form.name());
            return Err(self.fault(&format!("worked examples must have the task's form, but {what}")));
        }
        // The examples of a task with one description are for it, whatever their own file is called.
        let mut rows = pool.rows;
        let one = |rows: &[Row]| rows.windows(2).all(|pair| pair[0].description == pair[1].description);
        if let (true, true, Some(first)) = (one(&rows), one(&self.rows), self.rows.first()) {
            rows.iter_mut().for_each(|row| row.description.clone_from(&first.description));
        }
        self.pool = Some(rows);
        Ok(self)
    }

    /// The task with answers of so many tokens at most.
    ///
    /// # Errors
    /// When no answers are written.
    pub fn with_max_tokens(mut self, tokens: usize) -> Result<Task> {
        match &mut self.kind {
            Kind::Generate { max_tokens, .. } => *max_tokens = tokens,
            _ => return Err(self.fault("no answer is written, so there are no new tokens to limit")),
        }
        Ok(self)
    }

    fn fault(&self, what: &str) -> Error {
        Error::Task { task: self.name.clone(), what: what.to_owned() }
    }

    /// The prompts of the first `count` rows: description, worked examples, question.
    ///
    /// # Errors
    /// When there are not enough rows to take worked examples from.
    pub fn prompts(&self, count: usize) -> Result<Vec<String>, String> {
        let mut random = match self.pick {
            Pick::Random(seed) => Some(Random::new(seed)),
            Pick::First => None,
        };
        self.rows[..count].iter().map(|row| self.prompt(row, random.as_mut())).collect()
    }

    fn prompt(&self, row: &Row, random: Option<&mut Random>) -> Result<String, String> {
        let mut text = row.description.clone();
        for example in self.examples(row, random)? {
            text.extend([example.query.as_str(), &self.delimiter, example.shown(), &self.between]);
        }
        text.push_str(&row.query);
        Ok(text)
    }

    /// The worked examples of a row; never the row itself.
    fn examples(&self, row: &Row, random: Option<&mut Random>) -> Result<Vec<&Row>, String> {
        if self.shots == 0 {
            return Ok(Vec::new());
        }
        let rows = self.pool.as_ref().unwrap_or(&self.rows);
        // A file with several descriptions holds several tasks; examples are of the same one.
        let pool: Vec<&Row> = rows.iter().filter(|other| other.description == row.description).collect();
        let own = self.pool.is_none();
        let wanted = self.shots + usize::from(own);
        if pool.len() < wanted {
            return Err(format!(
                "{} worked examples are asked for and there are {} rows to take them from; ask for fewer with --shots",
                self.shots,
                pool.len() - usize::from(own && !pool.is_empty())
            ));
        }
        let others = |rows: Vec<&'_ Row>| -> Vec<usize> {
            (0..rows.len()).filter(|at| !own || !rows[*at].same(row)).take(self.shots).collect()
        };
        let picked: Vec<&Row> = match random {
            None => pool.clone(),
            Some(random) => random.sample(pool.len(), wanted).into_iter().map(|at| pool[at]).collect(),
        };
        let mut chosen: Vec<&Row> = others(picked.clone()).into_iter().map(|at| picked[at]).collect();
        if chosen.len() < self.shots {
            // Rows that stand twice were drawn and left out.
            let pool: Vec<&Row> = pool.into_iter().filter(|other| !other.same(row)).collect();
            chosen = pool.into_iter().take(self.shots).collect();
        }
        match chosen.len() {
            found if found < self.shots => Err(format!("only {found} rows differ from the one that is asked")),
            _ => Ok(chosen),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(rows: usize, shots: usize, pick: Pick, pool: Option<Vec<Row>>) -> Task {
        let row = |at: usize| Row { query: format!("Q{at}"), right: vec![format!("A{at}")], ..Row::default() };
        Task {
            name: "t".into(),
            form: Form::Own,
            kind: Kind::Text,
            rows: (0..rows).map(row).collect(),
            pool,
            shots,
            pick,
            delimiter: " ".into(),
            between: "\n\n".into(),
        }
    }

    #[test]
    fn worked_examples_are_never_the_row_itself() {
        let first = task(4, 2, Pick::First, None).prompts(3).unwrap();
        assert_eq!(first, ["Q1 A1\n\nQ2 A2\n\nQ0", "Q0 A0\n\nQ2 A2\n\nQ1", "Q0 A0\n\nQ1 A1\n\nQ2"]);
        for (at, prompt) in task(5, 3, Pick::Random(1234), None).prompts(5).unwrap().iter().enumerate() {
            assert!(prompt.ends_with(&format!("Q{at}")) && prompt.matches(&format!("Q{at}")).count() == 1, "{prompt}");
        }
        assert!(task(3, 3, Pick::First, None).prompts(1).unwrap_err().contains("there are 2 rows"));
    }

    #[test]
    fn a_pool_is_used_as_it_is() {
        let pool = task(3, 0, Pick::First, None).rows;
        assert_eq!(task(9, 1, Pick::First, Some(pool)).prompts(1).unwrap(), ["Q0 A0\n\nQ0"]);
    }
}
