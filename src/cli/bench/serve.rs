//! Answering another program line by line, one JSON value per line.

use std::io::{BufRead, Write};
use std::time::Instant;

use serde_json::{Value, json};

use crate::bench::items::{Item, names};
use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::kernels::Preset;

pub(super) fn run(gpu: &Gpu, preset: Preset) -> Result<()> {
    let mut built: Vec<(String, Item)> = vec![];
    let mut out = std::io::stdout().lock();
    for line in std::io::stdin().lock().lines() {
        let line = line.map_err(Error::io("read", "stdin"))?;
        let words: Vec<&str> = line.split_whitespace().collect();
        let answer = match words[..] {
            ["names"] => json!(names()),
            ["build", name] => {
                let start = Instant::now();
                match Item::build(gpu, preset, name) {
                    Ok(item) => {
                        let answer = json!({
                            "check": item.check,
                            "first_s": start.elapsed().as_secs_f64(),
                            "first_run_s": (item.first_run - start).as_secs_f64(),
                            "adapter": gpu.report().name,
                        });
                        built.retain(|(n, _)| n != name);
                        built.push((name.to_owned(), item));
                        answer
                    }
                    Err(error) => json!({ "error": error.to_string() }),
                }
            }
            ["time", name, reps] => {
                let item = built.iter().find(|(n, _)| n == name);
                match (item, reps.parse::<usize>()) {
                    (Some((_, item)), Ok(reps)) if reps > 0 => json!(item.time(reps)? * 1e3 / reps as f64),
                    _ => json!({ "error": "unknown item or number" }),
                }
            }
            ["drop", name] => {
                let before = built.len();
                built.retain(|(n, _)| n != name);
                Value::Bool(built.len() < before)
            }
            _ => json!({ "error": "expected names, build ITEM, time ITEM REPS or drop ITEM" }),
        };
        writeln!(out, "{answer}").and_then(|()| out.flush()).map_err(Error::io("write", "stdout"))?;
    }
    Ok(())
}
