//! The published notation of a pair of cells, as Python prints a named tuple, or as JSON: what all spaces of such cells read and write.

use std::fmt;

use super::{Op, shorten};
use crate::error::{Error, Result, unknown};

/// More text is no genotype.
const MOST_BYTES: usize = 4_096;

/// What is left to read.
struct Cursor<'a> {
    whole: &'a str,
    rest: &'a str,
    rules: &'a Rules,
}

/// What a cell's inputs may be.
pub(super) struct Rules {
    /// What errors are about.
    pub space: &'static str,
    /// Operations, none among them.
    pub ops: &'static [Op],
    /// Inputs of a cell, two of each node.
    pub inputs: usize,
}

/// A cell as it is written: operations and earlier nodes, two of each node, and the nodes that its output joins, if it says so.
#[derive(Default)]
pub(super) struct Written {
    pub inputs: Vec<(Op, usize)>,
    pub joined: Option<Vec<usize>>,
}

/// What cells are called in messages, and their keys; CRoZe's authors write the second one's in full.
const CELLS: [(&str, &[&str]); 2] = [("normal", &["normal"]), ("reduction", &["reduce", "reduction"])];

/// Reads both cells.
pub(super) fn parse(text: &str, rules: &Rules) -> Result<[Written; 2]> {
    let wrong = |why: String| Error::invalid(rules.space, why);
    if text.len() > MOST_BYTES {
        return Err(wrong(format!("a genotype of {} bytes, expected at most {MOST_BYTES}", text.len())));
    }
    let mut cursor = Cursor { whole: text, rest: text, rules };
    cursor.take("Genotype");
    cursor.one_of(&["(", "{"])?;
    let mut all_inputs: [Option<Vec<(Op, usize)>>; 2] = Default::default();
    let mut all_joined: [Option<Vec<usize>>; 2] = Default::default();
    while !cursor.take_one(&[")", "}"]) {
        let key = cursor.word()?;
        cursor.one_of(&["=", ":"])?;
        let (bare, is_concat) = key.strip_suffix("_concat").map_or((key, false), |bare| (bare, true));
        let Some(at) = CELLS.iter().position(|(_, keys)| keys.contains(&bare)) else {
            let known = ["normal", "normal_concat", "reduce", "reduce_concat"];
            return Err(unknown("part of a genotype", &shorten(key), &known));
        };
        let (inputs, joined) = (&mut all_inputs[at], &mut all_joined[at]);
        let repeated = if is_concat { joined.is_some() } else { inputs.is_some() };
        if repeated {
            return Err(wrong(format!("the genotype has `{key}` twice")));
        }
        match is_concat {
            true => *joined = Some(cursor.concat()?),
            false => *inputs = Some(cursor.cell(CELLS[at].0)?),
        }
        cursor.take(",");
    }
    cursor.skip();
    if !cursor.rest.is_empty() {
        return Err(cursor.wrong("nothing more"));
    }
    let mut written: [Written; 2] = Default::default();
    for ((own, (inputs, joined)), (_, keys)) in
        written.iter_mut().zip(all_inputs.into_iter().zip(all_joined)).zip(CELLS)
    {
        let inputs = inputs.ok_or_else(|| wrong(format!("the genotype has no `{}`", keys[0])))?;
        *own = Written { inputs, joined };
    }
    Ok(written)
}

/// A cell to be written: its inputs, and the nodes that its output joins.
type Parts<'a> = (&'a [(Op, usize)], &'a [usize]);

/// Writes cells as published: `Genotype(normal=[('sep_conv_3x3', 0), ...`.
pub(super) fn write(f: &mut fmt::Formatter<'_>, cells: [Parts<'_>; 2]) -> fmt::Result {
    let parts = cells.iter().zip(CELLS).map(|((inputs, joined), (_, keys))| {
        let pair = |(op, source): &(Op, usize)| format!("('{}', {source})", op.name());
        let inputs = inputs.iter().map(pair).collect::<Vec<_>>().join(", ");
        format!("{0}=[{inputs}], {0}_concat={joined:?}", keys[0])
    });
    write!(f, "Genotype({})", parts.collect::<Vec<_>>().join(", "))
}

impl<'a> Cursor<'a> {
    fn skip(&mut self) {
        self.rest = self.rest.trim_start();
    }

    fn wrong(&self, expected: &str) -> Error {
        let at = self.whole.len() - self.rest.len();
        let why = format!("byte {at} of the genotype, `{}`: expected {expected}", shorten(self.rest));
        Error::invalid(self.rules.space, why)
    }

    /// Takes a text if it stands here.
    fn take(&mut self, text: &str) -> bool {
        self.skip();
        let rest = self.rest.strip_prefix(text);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn take_one(&mut self, texts: &[&str]) -> bool {
        texts.iter().any(|text| self.take(text))
    }

    fn one_of(&mut self, texts: &[&str]) -> Result<()> {
        if self.take_one(texts) { Ok(()) } else { Err(self.wrong(&format!("`{}`", texts[0]))) }
    }

    /// A name, in quotes or not.
    fn word(&mut self) -> Result<&'a str> {
        self.take_one(&["'", "\""]);
        let end = self.rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        if word.is_empty() {
            return Err(self.wrong("a name"));
        }
        self.rest = rest;
        self.take_one(&["'", "\""]);
        Ok(word)
    }

    fn number(&mut self) -> Result<usize> {
        self.skip();
        let end = self.rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(self.rest.len());
        let (digits, rest) = self.rest.split_at(end);
        let number = digits.parse().map_err(|_| self.wrong("a number"))?;
        self.rest = rest;
        Ok(number)
    }

    /// Operations and inputs, two of each node.
    fn cell(&mut self, name: &str) -> Result<Vec<(Op, usize)>> {
        let Rules { space, ops, inputs: count } = *self.rules;
        self.one_of(&["[", "("])?;
        let mut pairs = vec![];
        while !self.take_one(&["]", ")"]) {
            self.one_of(&["(", "["])?;
            let word = self.word()?;
            let names: Vec<&str> = ops.iter().map(|op| op.name()).collect();
            let op = names.iter().position(|name| *name == word).map(|at| ops[at]);
            let op = op.ok_or_else(|| unknown("operation", &shorten(word), &names))?;
            self.one_of(&[","])?;
            let source = self.number()?;
            self.one_of(&[")", "]"])?;
            self.take(",");
            let node = pairs.len() / 2;
            if op == Op::None || source > node + 1 {
                let why = format!(
                    "input {} of the {name} cell is {} of node {source}; node {} has operations other than none, of nodes 0 to {}",
                    pairs.len() + 1,
                    op.name(),
                    node + 2,
                    node + 1
                );
                return Err(Error::invalid(space, why));
            }
            pairs.push((op, source));
            if pairs.len() > count {
                break;
            }
        }
        if pairs.len() != count {
            let (have, nodes) = (pairs.len(), count / 2);
            let why = format!("the {name} cell has {have} inputs, expected {count}: two of each of its {nodes} nodes");
            return Err(Error::invalid(space, why));
        }
        Ok(pairs)
    }

    /// The nodes that a cell's output joins.
    fn concat(&mut self) -> Result<Vec<usize>> {
        if self.take("range") {
            self.one_of(&["("])?;
            let from = self.number()?;
            self.one_of(&[","])?;
            let to = self.number()?;
            self.one_of(&[")"])?;
            return Ok((from..to.min(from.saturating_add(64))).collect());
        }
        self.one_of(&["[", "("])?;
        let mut nodes = vec![];
        while !self.take_one(&["]", ")"]) {
            nodes.push(self.number()?);
            self.take(",");
        }
        Ok(nodes)
    }
}
