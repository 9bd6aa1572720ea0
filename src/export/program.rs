//! A network in ONNX's words: nodes in the order in which they may run, and constants, all known by name.

use std::collections::{BTreeMap, HashMap, HashSet};

/// What the network reads.
pub(super) const INPUT: &str = "images";
/// What it says.
pub(super) const OUTPUT: &str = "logits";

/// Numbers that stand in the file.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Numbers {
    /// Weights.
    Floats(Vec<f32>),
    /// Sizes and places.
    Integers(Vec<i64>),
}

/// Numbers with their axes, outermost first.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Constant {
    pub dims: Vec<usize>,
    pub numbers: Numbers,
}

/// What a node is told besides its inputs.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Attribute {
    Float(f32),
    Integer(i64),
    Integers(Vec<i64>),
}

/// An operator of ONNX.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Node {
    pub operator: &'static str,
    pub inputs: Vec<String>,
    /// Its only output, by which the node is called too.
    pub output: String,
    pub attributes: Vec<(&'static str, Attribute)>,
}

/// Nodes, constants, and what of it is the answer.
#[derive(Debug)]
pub(super) struct Program {
    pub nodes: Vec<Node>,
    pub constants: BTreeMap<String, Constant>,
    /// The name of the answer.
    pub answer: String,
    taken: HashSet<String>,
}

impl Program {
    /// An empty one, in which nothing else is called as `reserved` says.
    pub fn new(reserved: impl Iterator<Item = String>) -> Self {
        let taken = reserved.chain([INPUT, OUTPUT].map(str::to_owned)).collect();
        Program { nodes: vec![], constants: BTreeMap::new(), answer: String::new(), taken }
    }

    /// A name that nothing else has: `base`, or with a number behind it.
    pub fn fresh(&mut self, base: &str) -> String {
        let mut name = base.to_owned();
        let mut number = 1;
        while !self.taken.insert(name.clone()) {
            number += 1;
            name = format!("{base}_{number}");
        }
        name
    }

    /// Appends a node, called `base` if that is free, and returns what its output is called.
    pub fn push(
        &mut self,
        base: &str,
        operator: &'static str,
        inputs: Vec<String>,
        attributes: Vec<(&'static str, Attribute)>,
    ) -> String {
        let output = self.fresh(base);
        self.nodes.push(Node { operator, inputs, output: output.clone(), attributes });
        output
    }

    /// Integers, which stand in the file once however often they are asked for.
    pub fn integers(&mut self, values: &[i64]) -> String {
        let text: Vec<String> = values.iter().map(i64::to_string).collect();
        let constant = Constant { dims: vec![values.len()], numbers: Numbers::Integers(values.to_vec()) };
        self.shared(format!("integers.{}", text.join(".")), constant)
    }

    /// So many times the same number, likewise.
    pub fn filled(&mut self, what: &str, value: f32, length: usize) -> String {
        let constant = Constant { dims: vec![length], numbers: Numbers::Floats(vec![value; length]) };
        self.shared(format!("{what}.{length}"), constant)
    }

    fn shared(&mut self, name: String, constant: Constant) -> String {
        if self.constants.get(&name) == Some(&constant) {
            return name;
        }
        let name = self.fresh(&name);
        self.constants.insert(name.clone(), constant);
        name
    }

    /// How often each name is read; the answer is read once more than nodes do.
    pub fn uses(&self) -> HashMap<String, usize> {
        let mut uses = HashMap::new();
        for name in self.nodes.iter().flat_map(|node| &node.inputs).chain([&self.answer]) {
            *uses.entry(name.clone()).or_default() += 1;
        }
        uses
    }

    /// Leaves out what the answer does not need.
    pub fn prune(&mut self) {
        let mut needed = HashSet::from([self.answer.clone()]);
        for node in self.nodes.iter().rev() {
            if needed.contains(&node.output) {
                needed.extend(node.inputs.iter().cloned());
            }
        }
        self.nodes.retain(|node| needed.contains(&node.output));
        self.constants.retain(|name, _| needed.contains(name));
    }

    /// Whoever reads `from` reads `to` from here on.
    pub fn redirect(&mut self, from: &str, to: &str) {
        let read = self.nodes.iter_mut().flat_map(|node| &mut node.inputs).chain([&mut self.answer]);
        for name in read.filter(|name| *name == from) {
            to.clone_into(name);
        }
    }

    /// Calls the answer [`OUTPUT`]. Where no node gives it (a network that answers with what it was asked), one that copies it does.
    pub fn call_answer(&mut self) {
        let from = std::mem::replace(&mut self.answer, OUTPUT.to_owned());
        if !self.nodes.iter().any(|node| node.output == from) {
            let output = OUTPUT.to_owned();
            self.nodes.push(Node { operator: "Identity", inputs: vec![from], output, attributes: vec![] });
            return;
        }
        self.redirect(&from, OUTPUT);
        for node in self.nodes.iter_mut().filter(|node| node.output == from) {
            OUTPUT.clone_into(&mut node.output);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(program: &mut Program, base: &str, inputs: &[&str]) -> String {
        program.push(base, "Relu", inputs.iter().map(|name| (*name).to_owned()).collect(), vec![])
    }

    #[test]
    fn names_are_unique_and_constants_shared() {
        let mut program = Program::new(["a".to_owned()].into_iter());
        assert_eq!(["a", "b", "b", INPUT].map(|base| program.fresh(base)), ["a_2", "b", "b_2", "images_2"]);
        let same = [[1, -2], [1, -2]].map(|values| program.integers(&values));
        assert_eq!(same[0], same[1]);
        assert_ne!(program.filled("ones", 1.0, 3), program.filled("ones", 1.0, 4));
        assert_eq!(program.constants.len(), 3);
    }

    #[test]
    fn what_the_answer_does_not_need_is_left_out() {
        let mut program = Program::new(std::iter::empty());
        let constant = program.integers(&[3]);
        let first = named(&mut program, "first", &[INPUT]);
        let aside = named(&mut program, "aside", &[&first, &constant]);
        named(&mut program, "further", &[&aside]);
        program.answer = named(&mut program, "last", &[&first]);
        program.prune();
        program.call_answer();
        let outputs: Vec<&str> = program.nodes.iter().map(|node| node.output.as_str()).collect();
        assert_eq!((outputs, program.constants.len()), (vec!["first", OUTPUT], 0));
        assert_eq!(program.uses()["first"], 1);
        program.answer = INPUT.into();
        program.prune();
        program.call_answer();
        assert_eq!((program.nodes.len(), program.nodes[0].operator), (1, "Identity"));
    }
}
