//! `altiplano selftest`

use serde::Serialize;

use super::Global;
use crate::error::{Error, Result};
use crate::selftest::{Check, run as checks};

#[derive(Serialize)]
struct Report {
    version: &'static str,
    system: String,
    adapter: String,
    backend: String,
    driver: String,
    checked: bool,
    passed: usize,
    failed: Vec<Check>,
    seconds: f64,
}

pub(super) fn run(global: &Global) -> Result<()> {
    let start = std::time::Instant::now();
    let (gpu, preset) = global.gpu()?;
    let all = checks(&gpu, preset);
    let (good, failed): (Vec<Check>, Vec<Check>) = all.iter().cloned().partition(|c| c.passed);
    let report = Report {
        version: env!("CARGO_PKG_VERSION"),
        system: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
        adapter: gpu.report().name.clone(),
        backend: gpu.report().backend.clone(),
        driver: gpu.report().driver.clone(),
        checked: global.checked,
        passed: good.len(),
        failed,
        seconds: start.elapsed().as_secs_f64(),
    };
    global.print(&report, || {
        let lines: String = all
            .iter()
            .map(|c| format!("{} {}: {}\n", if c.passed { "ok    " } else { "FAILED" }, c.name, c.detail))
            .collect();
        format!(
            "altiplano {} on {}\nadapter {} ({}), driver {}{}\n{lines}{} passed, {} failed in {:.1} s",
            report.version,
            report.system,
            report.adapter,
            report.backend,
            report.driver,
            if report.checked { ", checked shaders" } else { "" },
            report.passed,
            report.failed.len(),
            report.seconds,
        )
    })?;
    match report.failed.len() {
        0 => Ok(()),
        n => Err(Error::Gpu {
            doing: "selftest".into(),
            adapter: report.adapter,
            why: format!("{n} checks failed; please report the text above"),
        }),
    }
}
