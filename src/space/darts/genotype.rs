//! The published notation of a pair of cells, as Python prints a named tuple, or as JSON.

use super::{Cell, Genotype, NODES, Op, shorten, wrong};
use crate::error::{Error, Result, unknown};

/// More text is no genotype.
const MOST_BYTES: usize = 4_096;

/// What is left to read.
struct Cursor<'a> {
    whole: &'a str,
    rest: &'a str,
}

/// Reads both cells.
pub(super) fn parse(text: &str) -> Result<Genotype> {
    if text.len() > MOST_BYTES {
        return Err(wrong(format!("a genotype of {} bytes, expected at most {MOST_BYTES}", text.len())));
    }
    let mut cursor = Cursor { whole: text, rest: text };
    cursor.take("Genotype");
    cursor.one_of(&["(", "{"])?;
    let (mut normal, mut reduce) = (None, None);
    while !cursor.take_one(&[")", "}"]) {
        let key = cursor.word()?;
        cursor.one_of(&["=", ":"])?;
        let repeated = (key == "normal" && normal.is_some()) || (key == "reduce" && reduce.is_some());
        if repeated {
            return Err(wrong(format!("the genotype has `{key}` twice")));
        }
        match key {
            "normal" => normal = Some(cursor.cell("normal")?),
            "reduce" => reduce = Some(cursor.cell("reduction")?),
            "normal_concat" | "reduce_concat" => cursor.concat(key)?,
            other => {
                let known = ["normal", "normal_concat", "reduce", "reduce_concat"];
                return Err(unknown("part of a genotype", &shorten(other), &known));
            }
        }
        cursor.take(",");
    }
    cursor.skip();
    if !cursor.rest.is_empty() {
        return Err(cursor.wrong("nothing more"));
    }
    let missing = |name: &str| wrong(format!("the genotype has no `{name}`"));
    Ok(Genotype { normal: normal.ok_or_else(|| missing("normal"))?, reduce: reduce.ok_or_else(|| missing("reduce"))? })
}

impl<'a> Cursor<'a> {
    fn skip(&mut self) {
        self.rest = self.rest.trim_start();
    }

    fn wrong(&self, expected: &str) -> Error {
        let at = self.whole.len() - self.rest.len();
        wrong(format!("byte {at} of the genotype, `{}`: expected {expected}", shorten(self.rest)))
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
    fn cell(&mut self, name: &str) -> Result<Cell> {
        self.one_of(&["[", "("])?;
        let mut pairs = vec![];
        while !self.take_one(&["]", ")"]) {
            self.one_of(&["(", "["])?;
            let op: Op = self.word()?.parse()?;
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
                return Err(wrong(why));
            }
            pairs.push((op, source));
            if pairs.len() > 2 * NODES {
                break;
            }
        }
        let mut cell = Cell([[(Op::None, 0); 2]; NODES]);
        if pairs.len() != 2 * NODES {
            let why = format!("the {name} cell has {} inputs, expected 8: two of each of its four nodes", pairs.len());
            return Err(wrong(why));
        }
        for (node, inputs) in pairs.chunks_exact(2).enumerate() {
            if inputs[0].1 == inputs[1].1 {
                let why = format!(
                    "node {} of the {name} cell takes node {} twice; the space has two different inputs",
                    node + 2,
                    inputs[0].1
                );
                return Err(wrong(why));
            }
            cell.0[node] = [inputs[0], inputs[1]];
        }
        Ok(cell)
    }

    /// What a cell's output joins; only all of its nodes, in their order.
    fn concat(&mut self, key: &str) -> Result<()> {
        let nodes = if self.take("range") {
            self.one_of(&["("])?;
            let from = self.number()?;
            self.one_of(&[","])?;
            let to = self.number()?;
            self.one_of(&[")"])?;
            (from..to.min(from.saturating_add(64))).collect()
        } else {
            self.one_of(&["[", "("])?;
            let mut nodes = vec![];
            while !self.take_one(&["]", ")"]) {
                nodes.push(self.number()?);
                self.take(",");
            }
            nodes
        };
        match nodes == [2, 3, 4, 5] {
            true => Ok(()),
            false => Err(wrong(format!("{key} is {nodes:?}; the cells of this space join nodes 2 to 5"))),
        }
    }
}
