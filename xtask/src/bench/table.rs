//! The table in `docs/performance.md`: one section a machine, one row a model, test and peer, written anew by each run.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};

const HEAD: [&str; 2] =
    ["| model | tokens/s | pasture | peer | | ratio | pairs |", "|---|---|---:|---|---:|---:|---:|"];

/// One line of a table.
pub struct Row {
    /// Processor, kernels and threads.
    pub machine: String,
    pub model: String,
    pub test: String,
    pub ours: String,
    pub peer: String,
    pub theirs: String,
    pub ratio: String,
    pub pairs: usize,
}

/// Median, least and most.
pub fn spread(mut values: Vec<f64>, digits: usize) -> String {
    values.sort_by(f64::total_cmp);
    let (least, most) = (values[0], values[values.len() - 1]);
    let median = (values[(values.len() - 1) / 2] + values[values.len() / 2]) / 2.0;
    format!("{median:.digits$} ({least:.digits$}–{most:.digits$})")
}

/// Puts a row into its machine's table in a document, in place of the row of the same model, test and peer.
pub fn write(path: &Path, row: &Row) -> Result<()> {
    let text = fs::read_to_string(path).context("cannot be read")?;
    fs::write(path, placed(&text, row)).context("cannot be written")
}

fn placed(text: &str, row: &Row) -> String {
    let Row { machine, model, test, ours, peer, theirs, ratio, pairs } = row;
    let line = format!("| {model} | {test} | {ours} | {peer} | {theirs} | {ratio} | {pairs} |");
    let of = |line: &str| {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        [1, 2, 4].map(|at| cells.get(at).copied().unwrap_or_default().to_owned())
    };
    let mut lines: Vec<&str> = text.lines().collect();
    let heading = format!("## {machine}");
    let Some(begin) = lines.iter().position(|line| *line == heading) else {
        return format!("{}\n\n{heading}\n\n{}\n{}\n{line}\n", text.trim_end(), HEAD[0], HEAD[1]);
    };
    let is_row = |line: &&str| line.starts_with('|');
    let first = begin + lines[begin..].iter().position(is_row).unwrap_or(lines.len() - begin);
    let end = first + lines[first..].iter().take_while(|line| is_row(line)).count();
    match (first..end).find(|at| of(lines[*at]) == of(&line)) {
        Some(at) => lines[at] = &line,
        None => lines.insert(end, &line),
    }
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::{HEAD, Row, placed, spread};

    fn row(machine: &str, test: &str, ratio: &str) -> Row {
        let text = str::to_owned;
        let (model, peer) = (text("small"), text("llama.cpp"));
        let (ours, theirs) = (text("2.0"), text("1.0"));
        Row { machine: text(machine), model, test: text(test), ours, peer, theirs, ratio: text(ratio), pairs: 3 }
    }

    #[test]
    fn a_row_takes_the_place_of_its_like() {
        let text = placed("# Speed\n", &row("One", "prefill 8", "2.00"));
        let text = placed(&text, &row("Two", "prefill 8", "3.00"));
        let text = placed(&text, &row("One", "decode 8", "4.00"));
        let text = placed(&text, &row("One", "prefill 8", "5.00"));
        let line = |test: &str, ratio: &str| format!("| small | {test} | 2.0 | llama.cpp | 1.0 | {ratio} | 3 |\n");
        let head = format!("{}\n{}\n", HEAD[0], HEAD[1]);
        let one = format!("## One\n\n{head}{}{}", line("prefill 8", "5.00"), line("decode 8", "4.00"));
        assert_eq!(text, format!("# Speed\n\n{one}\n## Two\n\n{head}{}", line("prefill 8", "3.00")));
    }

    #[test]
    fn a_spread_is_the_median_with_least_and_most() {
        assert_eq!(spread(vec![3.0, 1.0, 2.0], 1), "2.0 (1.0–3.0)");
        assert_eq!(spread(vec![2.0, 1.0], 2), "1.50 (1.00–2.00)");
    }
}
