//! What there is to know of a kernel besides its arithmetic: its row, what it reads and writes, and what leaves its bits alone.
//!
//! [`rows!`] makes all of it from one list of fields per kernel:
//!
//! ```text
//! rows! {
//!     /// Sum of equal parts in fixed order.
//!     SumParts of "sum_parts", same bits for any [LANES] { parts: read, y: write, count: count, terms: count }
//! }
//! ```
//!
//! | kind | in Rust | in the row | in the plan |
//! |---|---|---|---|
//! | `read`, `write`, `update` | `TensorId` | where it starts | an operand with a binding, in the order of the fields, that the call reads, writes, or both |
//! | `maybe_read`, `maybe_write` | `Option<TensorId>` | where it starts, or `NONE` | the same; the binding of an absent one shows the operand before |
//! | `when_read`, `when_update` | `Option<TensorId>` | where it starts, or `NONE` | the same; an absent one has no binding, as the variant has none |
//! | `beside` | `Option<TensorId>` | where it starts, or `NONE` | read; it lies in the slab of the operand before |
//! | `listed`, `maybe_listed` | the tensor, or an option | where it starts, or `NONE` | of a listed record: one of the call's pool |
//! | `slab`, `maybe_slab` | the tensor, or an option | which of the pool's slabs it lies in | |
//! | `count`, `word`, `real`, `flag` | `usize`, `u32`, `f32`, `bool` | the number | |
//! | `first`, `class` | `()`, `u32` | first of the task's listed records, in rows of the table; how many of a class | |

use super::Word;
use crate::graph::TensorId;
use crate::shader::{Record, Variant};

/// A kernel's description.
#[derive(Clone, Copy, Debug)]
pub struct Kernel {
    /// Its file in `shaders/`, without ending.
    pub shader: &'static str,
    /// Its records: the task's row, then what may be listed behind the rows.
    pub records: &'static [Record],
    /// Constants that say how the work is shared out, and not in which order anything is summed: results are the same to
    /// the bit for any value of theirs, so these may be chosen freely.
    pub free: &'static [&'static str],
}

impl Kernel {
    /// The kernel with these constants.
    pub fn with<const N: usize>(&self, defs: [(&'static str, usize); N]) -> Variant {
        Variant { records: self.records, ..Variant::new(self.shader, defs) }
    }
}

/// How an operand is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    Read,
    Write,
    Update,
}

/// A field with its value.
pub(super) enum Value {
    /// A number, or a place.
    Word(Word),
    /// An operand with a binding; an absent one shows the operand before where `always`.
    Operand { tensor: Option<TensorId>, access: Access, always: bool },
    /// A tensor that is read beside the operand before.
    Beside(Option<TensorId>),
}

impl Value {
    /// What the table holds.
    pub fn word(&self) -> Word {
        match *self {
            Value::Word(word) => word,
            Value::Operand { tensor, .. } | Value::Beside(tensor) => tensor.into(),
        }
    }
}

/// A record with its values.
pub(super) trait Fields {
    /// Values in the order of the fields.
    fn values(self) -> Vec<Value>;
}

/// The words of a record, filled up to whole `vec4`.
pub(super) fn words(values: &[Value]) -> Vec<Word> {
    let mut words: Vec<Word> = values.iter().map(Value::word).collect();
    words.resize(words.len().next_multiple_of(4), Word::Value(0));
    words
}

/// A field's type in Rust, its type in the shader, and its value, by kind.
macro_rules! kind {
    (rust read) => { $crate::graph::TensorId };
    (rust write) => { $crate::graph::TensorId };
    (rust update) => { $crate::graph::TensorId };
    (rust listed) => { $crate::graph::TensorId };
    (rust slab) => { $crate::graph::TensorId };
    (rust count) => { usize };
    (rust word) => { u32 };
    (rust real) => { f32 };
    (rust flag) => { bool };
    (rust first) => { () };
    (rust class) => { u32 };
    (rust $maybe:ident) => { Option<$crate::graph::TensorId> };

    (wgsl real) => { $crate::shader::Scalar::F32 };
    (wgsl flag) => { $crate::shader::Scalar::Bool };
    (wgsl $other:ident) => { $crate::shader::Scalar::U32 };

    (value read $v:expr) => { kind!(operand Some($v), Read, true) };
    (value write $v:expr) => { kind!(operand Some($v), Write, true) };
    (value update $v:expr) => { kind!(operand Some($v), Update, true) };
    (value maybe_read $v:expr) => { kind!(operand $v, Read, true) };
    (value maybe_write $v:expr) => { kind!(operand $v, Write, true) };
    (value when_read $v:expr) => { kind!(operand $v, Read, false) };
    (value when_update $v:expr) => { kind!(operand $v, Update, false) };
    (value beside $v:expr) => { $crate::kernels::kernel::Value::Beside($v) };
    (value listed $v:expr) => { kind!(at $v.into()) };
    (value maybe_listed $v:expr) => { kind!(at $v.into()) };
    (value slab $v:expr) => { kind!(at $crate::kernels::Word::Slab($v)) };
    (value maybe_slab $v:expr) => { kind!(at $v.map_or($crate::kernels::Word::Value(0), $crate::kernels::Word::Slab)) };
    (value word $v:expr) => { kind!(at $crate::kernels::Word::Value($v)) };
    (value flag $v:expr) => { kind!(at $crate::kernels::Word::Value($v.into())) };
    (value first $v:expr) => {{ let () = $v; kind!(at $crate::kernels::Word::FirstTerm) }};
    (value class $v:expr) => { kind!(at $crate::kernels::Word::Terms($v)) };
    (value $number:ident $v:expr) => { kind!(at $v.into()) };

    (at $word:expr) => { $crate::kernels::kernel::Value::Word($word) };
    (operand $tensor:expr, $access:ident, $always:expr) => {
        $crate::kernels::kernel::Value::Operand {
            tensor: $tensor,
            access: $crate::kernels::kernel::Access::$access,
            always: $always,
        }
    };
}

/// Declares a record.
macro_rules! record {
    ($(#[$doc:meta])* $name:ident as $wgsl:expr => { $($field:ident: $kind:ident),* $(,)? }) => {
        $(#[$doc])*
        pub(super) struct $name {
            $(pub $field: kind!(rust $kind),)*
        }

        impl $name {
            /// Its words.
            pub const RECORD: $crate::shader::Record =
                $crate::shader::Record { name: $wgsl, fields: &[$((stringify!($field), kind!(wgsl $kind))),*] };
        }

        impl $crate::kernels::kernel::Fields for $name {
            fn values(self) -> Vec<$crate::kernels::kernel::Value> {
                vec![$(kind!(value $kind self.$field)),*]
            }
        }
    };
}

/// Declares kernels with their rows, and with the records that they list behind these.
macro_rules! rows {
    ($($(#[$doc:meta])* $name:ident of $shader:literal, same bits for any [$($free:ident)*] $(with $listed:ident)? { $($fields:tt)* })*) => {$(
        record! { $(#[$doc])* $name as $crate::shader::Record::ROW => { $($fields)* } }

        impl $name {
            /// The kernel that takes these rows.
            pub const KERNEL: $crate::kernels::Kernel = $crate::kernels::Kernel {
                shader: $shader,
                records: &[Self::RECORD $(, $listed::RECORD)?],
                free: &[$(stringify!($free)),*],
            };
        }
    )*};
}

pub(super) use {kind, record, rows};
