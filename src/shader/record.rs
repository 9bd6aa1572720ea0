//! Records of the task table: one list of fields, from which both the shader's accessors and the host's packing are made.

/// What a word of a record is to a shader.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scalar {
    /// A whole number; of a tensor the place where it starts, in `vec4<f32>` from the start of its slab, or `NONE`.
    U32,
    /// A number.
    F32,
    /// Yes or no.
    Bool,
}

impl Scalar {
    /// Name of the type in WGSL.
    pub const fn name(self) -> &'static str {
        match self {
            Scalar::U32 => "u32",
            Scalar::F32 => "f32",
            Scalar::Bool => "bool",
        }
    }

    fn read(self, word: String) -> String {
        match self {
            Scalar::U32 => word,
            Scalar::F32 => format!("bitcast<f32>({word})"),
            Scalar::Bool => format!("{word} != 0u"),
        }
    }
}

/// A record: `Row`, which each task has, or one that is listed behind the rows. It takes a whole number of `vec4<u32>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Record {
    /// Name of the structure in WGSL.
    pub name: &'static str,
    /// Names and types of the words, in order.
    pub fields: &'static [(&'static str, Scalar)],
}

impl Record {
    /// The record of a task.
    pub const ROW: &'static str = "Row";

    /// Length in `vec4<u32>`.
    pub const fn vec4s(&self) -> usize {
        self.fields.len().div_ceil(4)
    }

    /// The structure, and the function that reads it: `task_row(group_id)` for a row, `term_at(place)` for a record `Term`, whose
    /// place in the table is counted in `vec4`, and its length
    /// `TERM_VEC4S`. `#import Row` and `#import Term` give these.
    pub(super) fn wgsl(&self) -> String {
        let Record { name, fields } = self;
        let vec4s = self.vec4s();
        let mut text = format!("struct {name} {{\n");
        for (field, scalar) in *fields {
            text.push_str(&format!("    {field}: {},\n", scalar.name()));
        }
        text.push_str("}\n\n");
        let (function, first) = if *name == Self::ROW {
            ("task_row(group: vec3<u32>)".to_owned(), format!("task_number(group) * {vec4s}u"))
        } else {
            text.push_str(&format!("const {}_VEC4S: u32 = {vec4s}u;\n\n", name.to_uppercase()));
            (format!("{}_at(place: u32)", name.to_lowercase()), "place".to_owned())
        };
        text.push_str(&format!("fn {function} -> {name} {{\n"));
        for part in 0..vec4s {
            text.push_str(&format!("    let part{part} = rows[{first} + {part}u];\n"));
        }
        let words = fields.iter().enumerate().map(|(i, (_, scalar))| {
            let component = ["x", "y", "z", "w"][i % 4];
            scalar.read(format!("part{}.{component}", i / 4))
        });
        let words: Vec<String> = words.collect();
        text.push_str(&format!("    return {name}({});\n}}\n", words.join(", ")));
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_and_listed_records_are_read_word_by_word() {
        let fields = &[
            ("x", Scalar::U32),
            ("epsilon", Scalar::F32),
            ("relu", Scalar::Bool),
            ("h", Scalar::U32),
            ("w", Scalar::U32),
        ];
        let row = Record { name: Record::ROW, fields };
        assert_eq!(row.vec4s(), 2);
        let text = row.wgsl();
        assert!(
            text.contains("struct Row {\n    x: u32,\n    epsilon: f32,\n    relu: bool,\n    h: u32,\n    w: u32,\n}"),
            "{text}"
        );
        assert!(text.contains("let part1 = rows[task_number(group) * 2u + 1u];"), "{text}");
        assert!(
            text.contains("return Row(part0.x, bitcast<f32>(part0.y), part0.z != 0u, part0.w, part1.x);"),
            "{text}"
        );
        let term = Record { name: "Term", fields: &fields[..1] }.wgsl();
        assert!(term.contains("const TERM_VEC4S: u32 = 1u;"), "{term}");
        assert!(term.contains("fn term_at(place: u32) -> Term {\n    let part0 = rows[place + 0u];"), "{term}");
    }
}
