//! What measures take from inner tensors.

use altiplano::graph::{Op, Shape};

use super::harness::{Bound, Case, Fill};
use super::statistics::noisy_codes;

pub fn cases() -> Vec<Case> {
    let shapes = [(2, 5, 7, 3), (1, 3, 41, 6), (3, 1, 1, 13), (2, 9, 11, 8), (3, 8, 8, 67), (2, 41, 25, 18)];
    let shapes = shapes.map(|(n, h, w, c)| Shape::map(n, h, w, c));
    let of_shape = |(i, shape)| [image_dot(shape, i), sign_codes(shape, i), noisy_codes(shape, i)];
    shapes.into_iter().enumerate().flat_map(of_shape).collect()
}

fn image_dot(shape: Shape, i: usize) -> Case {
    let mut case = Case::new(format!("image dot {i}"));
    let (a, b) = (case.shared(shape, Fill::Numbers), case.input(shape, Fill::Numbers));
    let [n, h, w, c] = shape.nhwc();
    let y = case.output(Shape::map(n, 1, 1, c), Bound::Sum(h * w));
    case.push(Op::ImageDot { a, b, y });
    case
}

fn sign_codes(shape: Shape, i: usize) -> Case {
    let mut case = Case::new(format!("sign codes {i}"));
    let x = case.input(shape, Fill::Numbers);
    let [n, h, w, c] = shape.nhwc();
    let y = case.output(Shape::Vectors { rows: n, c: (h * w * c.div_ceil(4)).div_ceil(4) }, Bound::Exact);
    case.push(Op::SignCodes { x, y });
    case
}
