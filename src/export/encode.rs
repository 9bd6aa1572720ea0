//! A program as the bytes of an ONNX file.

use onnx_rs::ast;

use super::program::{Attribute, Constant, INPUT, Node, Numbers, OUTPUT, Program};

/// The version of the file's layout that goes with the operators' version.
const IR_VERSION: i64 = 8;
/// What the axis is called whose length is open.
const IMAGES: &str = "N";

/// The bytes of a file in which `program` makes `classes` logits of images of so many rows, columns and channels.
pub(super) fn encode(program: &Program, input: [usize; 3], classes: usize, metadata: &[(&str, String)]) -> Vec<u8> {
    let bytes: Vec<Vec<u8>> = program.constants.values().map(raw).collect();
    let constants = program.constants.iter().zip(&bytes);
    let [height, width, channels] = input;
    let graph = ast::Graph {
        name: "network",
        node: program.nodes.iter().map(node).collect(),
        initializer: constants.map(|((name, constant), bytes)| tensor(name, constant, bytes)).collect(),
        input: vec![described(INPUT, &[channels, height, width])],
        output: vec![described(OUTPUT, &[classes])],
        ..ast::Graph::default()
    };
    let model = ast::Model {
        ir_version: IR_VERSION,
        opset_import: vec![ast::OperatorSetId { domain: "", version: super::OPSET }],
        producer_name: env!("CARGO_PKG_NAME"),
        producer_version: env!("CARGO_PKG_VERSION"),
        graph: Some(graph),
        metadata_props: metadata.iter().map(|(key, value)| ast::StringStringEntry { key, value }).collect(),
        ..ast::Model::default()
    };
    onnx_rs::encode(&model)
}

/// Little-endian bytes, as the format wants them.
fn raw(constant: &Constant) -> Vec<u8> {
    match &constant.numbers {
        Numbers::Floats(values) => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
        Numbers::Integers(values) => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
    }
}

fn tensor<'a>(name: &'a str, constant: &Constant, bytes: &'a [u8]) -> ast::TensorProto<'a> {
    let kind = match constant.numbers {
        Numbers::Floats(_) => ast::DataType::Float,
        Numbers::Integers(_) => ast::DataType::Int64,
    };
    ast::TensorProto::from_raw(name, constant.dims.iter().map(|&axis| axis as i64).collect(), kind, bytes)
}

fn node(node: &Node) -> ast::Node<'_> {
    ast::Node {
        name: &node.output,
        op_type: node.operator.into(),
        input: node.inputs.iter().map(String::as_str).collect(),
        output: vec![&node.output],
        attribute: node.attributes.iter().map(|(name, value)| attribute(name, value)).collect(),
        ..ast::Node::default()
    }
}

fn attribute<'a>(name: &'a str, value: &Attribute) -> ast::Attribute<'a> {
    let named = ast::Attribute { name, ..ast::Attribute::default() };
    match value {
        Attribute::Float(f) => ast::Attribute { f: *f, r#type: ast::AttributeType::Float, ..named },
        Attribute::Integer(i) => ast::Attribute { i: *i, r#type: ast::AttributeType::Int, ..named },
        Attribute::Integers(ints) => ast::Attribute { ints: ints.clone(), r#type: ast::AttributeType::Ints, ..named },
    }
}

/// Any number of images with these axes.
fn described<'a>(name: &'a str, axes: &[usize]) -> ast::ValueInfo<'a> {
    let fixed = axes.iter().map(|&axis| ast::Dimension::Value(axis as i64));
    let all = [ast::Dimension::Param(IMAGES)].into_iter().chain(fixed);
    let dim = all.map(|value| ast::TensorShapeDimension { value, ..Default::default() }).collect();
    let tensor = ast::TensorTypeProto { elem_type: ast::DataType::Float, shape: Some(ast::TensorShape { dim }) };
    let kind = ast::TypeProto { value: Some(ast::TypeValue::Tensor(tensor)), ..Default::default() };
    ast::ValueInfo { name, r#type: Some(kind), ..Default::default() }
}
