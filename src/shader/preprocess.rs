//! The WGSL preprocessor: imports, conditions, unrolled loops, constants.
//!
//! ```text
//! #import task              the text of shaders/shared/task.wgsl, once
//! #if EXPR / #else / #end   lines kept if EXPR is not zero; an unknown name counts as zero
//! #for NAME in A..B / #end  lines repeated, NAME counting from A to B - 1
//! ${EXPR}                   the value; an unknown name is an error
//! NAME@I in an expression   the name NAME with the value of I behind it
//! ```
//!
//! Expressions are integers, names, parentheses, and `! - * / % + - << >> < <= > >= == != & && ||` with C's precedence;
//! division rounds down. Drivers see no unroll hints through SPIR-V, so inner blocks are unrolled here.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

/// Names and their values.
pub type Defs = BTreeMap<String, i64>;

/// Preprocesses `source`; `import` finds a snippet by name.
///
/// # Errors
/// The line number and what is wrong there.
pub fn preprocess(
    source: &str,
    defs: &Defs,
    import: &dyn Fn(&str) -> Option<Cow<'static, str>>,
) -> Result<String, String> {
    let lines: Vec<&str> = source.lines().collect();
    let mut state = State { import, imported: BTreeSet::new(), out: String::with_capacity(source.len() * 2) };
    let mut scope = defs.clone();
    state.block(&lines, 0, lines.len(), &mut scope)?;
    Ok(state.out)
}

struct State<'a> {
    import: &'a dyn Fn(&str) -> Option<Cow<'static, str>>,
    imported: BTreeSet<String>,
    out: String,
}

impl State<'_> {
    fn block(&mut self, lines: &[&str], from: usize, to: usize, scope: &mut Defs) -> Result<(), String> {
        let mut at = from;
        while at < to {
            let line = lines[at].trim_start();
            let fail = |why: String| format!("line {}: {why}", at + 1);
            if let Some(name) = line.strip_prefix("#import ") {
                let name = name.trim();
                if self.imported.insert(name.to_owned()) {
                    let text = (self.import)(name).ok_or_else(|| fail(format!("no snippet `{name}`")))?;
                    let inner: Vec<&str> = text.lines().collect();
                    self.block(&inner, 0, inner.len(), scope).map_err(|e| format!("{name}: {e}"))?;
                }
            } else if let Some(condition) = line.strip_prefix("#if ") {
                let (other, end) = matching(lines, at, to).map_err(fail)?;
                let value = substitute(condition, scope).and_then(|c| evaluate(&c, scope, true)).map_err(fail)?;
                match (value != 0, other) {
                    (true, other) => self.block(lines, at + 1, other.unwrap_or(end), scope)?,
                    (false, Some(other)) => self.block(lines, other + 1, end, scope)?,
                    (false, None) => {}
                }
                at = end;
            } else if let Some(head) = line.strip_prefix("#for ") {
                let (_, end) = matching(lines, at, to).map_err(fail)?;
                let parts =
                    head.split_once(" in ").and_then(|(name, range)| Some((name.trim(), range.split_once("..")?)));
                let (name, (low, high)) = parts.ok_or_else(|| fail("expected `#for NAME in A..B`".into()))?;
                let (low, high) =
                    (evaluate(low, scope, false).map_err(fail)?, evaluate(high, scope, false).map_err(fail)?);
                let shadowed = scope.get(name).copied();
                for value in low..high {
                    scope.insert(name.to_owned(), value);
                    self.block(lines, at + 1, end, scope)?;
                }
                match shadowed {
                    Some(old) => scope.insert(name.to_owned(), old),
                    None => scope.remove(name),
                };
                at = end;
            } else if line.starts_with('#') {
                return Err(fail(format!("unknown directive `{line}`")));
            } else if !line.starts_with("//") {
                self.line(lines[at], scope).map_err(fail)?;
            }
            at += 1;
        }
        Ok(())
    }

    /// Copies a line with its `${}` replaced.
    fn line(&mut self, line: &str, scope: &Defs) -> Result<(), String> {
        self.out.push_str(&substitute(line, scope)?);
        self.out.push('\n');
        Ok(())
    }
}

/// Replaces every `${}`.
fn substitute(line: &str, scope: &Defs) -> Result<String, String> {
    let (mut rest, mut out) = (line, String::with_capacity(line.len()));
    while let Some(start) = rest.find("${") {
        let length = rest[start..].find('}').ok_or("`${` without `}`")?;
        out.push_str(&rest[..start]);
        out.push_str(&evaluate(&rest[start + 2..start + length], scope, false)?.to_string());
        rest = &rest[start + length + 1..];
    }
    out.push_str(rest);
    Ok(out)
}

/// Lines of the `#else` (if any) and the `#end` that belong to the block opened at `at`.
fn matching(lines: &[&str], at: usize, to: usize) -> Result<(Option<usize>, usize), String> {
    let (mut depth, mut other) = (0, None);
    for (i, line) in lines.iter().enumerate().take(to).skip(at + 1) {
        let line = line.trim_start();
        if line.starts_with("#if ") || line.starts_with("#for ") {
            depth += 1;
        } else if line.trim_end() == "#end" {
            if depth == 0 {
                return Ok((other, i));
            }
            depth -= 1;
        } else if line.trim_end() == "#else" && depth == 0 {
            other = Some(i);
        }
    }
    Err("no matching `#end`".into())
}

/// Binary operators by rising precedence.
const LEVELS: &[&[&str]] =
    &[&["||"], &["&&"], &["&"], &["==", "!="], &["<=", ">=", "<", ">"], &["<<", ">>"], &["+", "-"], &["*", "/", "%"]];

/// Value of an integer expression.
fn evaluate(text: &str, scope: &Defs, lenient: bool) -> Result<i64, String> {
    let mut parser = Parser { rest: text.trim(), scope, lenient };
    let value = parser.binary(0)?;
    if parser.rest.is_empty() { Ok(value) } else { Err(format!("`{}` does not belong into `{text}`", parser.rest)) }
}

struct Parser<'a> {
    rest: &'a str,
    scope: &'a Defs,
    lenient: bool,
}

impl Parser<'_> {
    fn take(&mut self, token: &str) -> bool {
        let found = self.rest.starts_with(token);
        if found {
            self.rest = self.rest[token.len()..].trim_start();
        }
        found
    }

    fn operator(&mut self, level: usize) -> Option<&'static str> {
        // A longer operator of another level must not be cut: `&` of `&&`, `<` of `<<`.
        let all = LEVELS.iter().flat_map(|l| l.iter());
        let longest = all.filter(|op| self.rest.starts_with(**op)).max_by_key(|op| op.len())?;
        let mine = LEVELS[level].contains(longest).then_some(*longest)?;
        self.take(mine);
        Some(mine)
    }

    fn binary(&mut self, level: usize) -> Result<i64, String> {
        if level == LEVELS.len() {
            return self.unary();
        }
        let mut left = self.binary(level + 1)?;
        while let Some(op) = self.operator(level) {
            let right = self.binary(level + 1)?;
            left = match op {
                "||" => i64::from(left != 0 || right != 0),
                "&&" => i64::from(left != 0 && right != 0),
                "&" => left & right,
                "==" => i64::from(left == right),
                "!=" => i64::from(left != right),
                "<=" => i64::from(left <= right),
                ">=" => i64::from(left >= right),
                "<" => i64::from(left < right),
                ">" => i64::from(left > right),
                "<<" => left.wrapping_shl(right as u32),
                ">>" => left.wrapping_shr(right as u32),
                "+" => left.wrapping_add(right),
                "-" => left.wrapping_sub(right),
                "*" => left.wrapping_mul(right),
                _ if right == 0 => return Err("division by zero".into()),
                "/" => left.div_euclid(right),
                _ => left.rem_euclid(right),
            };
        }
        Ok(left)
    }

    fn unary(&mut self) -> Result<i64, String> {
        if self.take("!") {
            return Ok(i64::from(self.unary()? == 0));
        }
        if self.take("-") {
            return Ok(-self.unary()?);
        }
        if self.take("(") {
            let value = self.binary(0)?;
            return if self.take(")") { Ok(value) } else { Err("`(` without `)`".into()) };
        }
        let end = self.rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(self.rest.len());
        let word = &self.rest[..end];
        // `NAME@i` is the name with the value of `i` behind it.
        let (numbered, end) = match self.rest[end..].strip_prefix('@') {
            Some(tail) => {
                let length = tail.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(tail.len());
                let index =
                    self.scope.get(&tail[..length]).ok_or_else(|| format!("`{}` is not defined", &tail[..length]))?;
                (Some(format!("{word}{index}")), end + 1 + length)
            }
            None => (None, end),
        };
        let word = numbered.as_deref().unwrap_or(word);
        let value = if word.starts_with(|c: char| c.is_ascii_digit()) {
            word.parse().map_err(|_| format!("`{word}` is no integer"))?
        } else {
            match self.scope.get(word) {
                Some(&value) => value,
                None if self.lenient && !word.is_empty() => 0,
                None => return Err(format!("`{word}` is not defined")),
            }
        };
        self.rest = self.rest[end..].trim_start();
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(source: &str) -> Result<String, String> {
        let defs = Defs::from([("N".into(), 3), ("FLAG".into(), 1), ("WIDTH0".into(), 7)]);
        preprocess(source, &defs, &|name| (name == "twice").then_some("let twice = ${2 * N};".into()))
    }

    #[test]
    fn expands() {
        assert_eq!(
            run("#for i in 0..N\na${i} = ${i * i % 2 + 1 << 1};\n#end").as_deref(),
            Ok("a0 = 2;\na1 = 4;\na2 = 2;\n")
        );
        assert_eq!(run("#if FLAG && !OTHER\nyes\n#else\nno\n#end").as_deref(), Ok("yes\n"));
        assert_eq!(run("#if N > 3 || (N & 1) == 0\nyes\n#else\nno\n#end").as_deref(), Ok("no\n"));
        assert_eq!(run("#import twice\n#import twice\n").as_deref(), Ok("let twice = 6;\n"));
        assert_eq!(run("#for i in 0..2\n#for j in i..2\n${i}${j}\n#end\n#end").as_deref(), Ok("00\n01\n11\n"));
        assert_eq!(run("#for i in 0..1\n${WIDTH@i + 1}\n#end").as_deref(), Ok("8\n"));
        assert_eq!(run("${-7 / 2} ${-7 % 2}").as_deref(), Ok("-4 1\n"));
    }

    #[test]
    fn says_what_is_wrong() {
        for (source, why) in [
            ("#if N\nx", "line 1: no matching `#end`"),
            ("x\n${M}", "line 2: `M` is not defined"),
            ("#import none", "line 1: no snippet `none`"),
            ("#define X", "line 1: unknown directive `#define X`"),
            ("${N / 0}", "line 1: division by zero"),
            ("${(N}", "line 1: `(` without `)`"),
            ("#for i\n#end", "line 1: expected `#for NAME in A..B`"),
        ] {
            assert_eq!(run(source), Err(why.to_owned()), "{source}");
        }
    }
}
