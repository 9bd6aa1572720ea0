//! What a real GPU's compiler makes of the preset `gpu`, without a GPU: Mesa's RADV compiles every variant of
//! `bench::catalogue` for two generations of AMD hardware, and each is held against `tests/gpu_compiler/budget.txt`: lanes of a
//! workgroup, registers, waves, and registers that spill. A kernel that cannot be fast shows itself here.
//!
//! The budget is of one version of Mesa. With another one registers and waves are printed, and only what should not spill and
//! does fails. `ALTIPLANO_BUDGET=write` writes what is there now into the file, to be looked at before it is committed.
#![cfg(target_os = "linux")]

#[path = "gpu_compiler/assembly.rs"]
mod assembly;
#[path = "gpu_compiler/radv.rs"]
mod radv;

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use altiplano::bench::catalogue::catalogue;
use altiplano::kernels::Preset;
use altiplano::shader::spirv;
use radv::{Compiler, Report, description};

/// RDNA 2, with waves of 32 or 64 lanes, and GCN 5, with waves of 64.
const FAMILIES: [&str; 2] = ["navi21", "vega10"];
/// The version whose registers and waves the budget holds.
const MESA: &str = "Mesa 22.3";
/// Set where this test runs as a child of itself, for one family.
const CHILD: &str = "ALTIPLANO_COMPILES_FOR_A_FAMILY";
/// Marks the lines that a child prints for this test.
const MARK: &str = "compiled: ";

/// What one variant may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Budget {
    lanes: u32,
    report: Report,
}

/// By family and variant.
type Budgets = BTreeMap<(String, String), Budget>;

/// `family lanes subgroup vgprs waves spilled multiply-adds maxima variant`
fn parse(line: &str) -> Option<((String, String), Budget)> {
    let mut words = line.splitn(9, ' ');
    let family = words.next()?.to_owned();
    let mut number = || words.next()?.parse::<u64>().ok();
    let (lanes, subgroup, vgprs, waves, spilled) = (number()?, number()?, number()?, number()?, number()?);
    let (adds, maxima) = (number()? as u32, number()? as usize);
    let report = Report { subgroup: subgroup as u32, vgprs, spilled, waves, adds, maxima, milliseconds: 0 };
    Some(((family, words.next()?.to_owned()), Budget { lanes: lanes as u32, report }))
}

fn line(((family, variant), budget): (&(String, String), &Budget)) -> String {
    let Report { subgroup, vgprs, waves, spilled, adds, maxima, .. } = budget.report;
    format!("{family} {} {subgroup} {vgprs} {waves} {spilled} {adds} {maxima} {variant}", budget.lanes)
}

fn file() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/gpu_compiler/budget.txt")
}

/// What is wrong with a variant, if anything is; `exact` where the budget's version of Mesa compiled.
fn verdict(budget: Budget, now: Budget, exact: bool) -> Option<String> {
    let (had, has) = (budget.report, now.report);
    let spills = has.spilled > if exact || had.spilled == 0 { had.spilled } else { u64::MAX };
    match () {
        () if spills => Some(format!("spills {} registers instead of {}", has.spilled, had.spilled)),
        () if has.maxima > had.maxima => Some(format!("has {} maxima instead of {}", has.maxima, had.maxima)),
        () if now.lanes < budget.lanes => Some(format!("has {} lanes instead of {}", now.lanes, budget.lanes)),
        () if !exact => None,
        () if has.spilled < had.spilled => {
            let (fewer, known) = (has.spilled, had.spilled);
            Some(format!("spills {fewer} registers instead of {known}: better, so write it down"))
        }
        () if has.subgroup != had.subgroup => {
            Some(format!("runs in waves of {} lanes instead of {}", has.subgroup, had.subgroup))
        }
        () if has.vgprs > had.vgprs => Some(format!("takes {} registers instead of {}", has.vgprs, had.vgprs)),
        () if has.adds < had.adds => Some(format!(
            "has {} multiply-adds in a hundred instructions of its loop instead of {}",
            has.adds, had.adds
        )),
        () if has.waves < had.waves => Some(format!("leaves {} waves instead of {}", has.waves, had.waves)),
        () => None,
    }
}

#[test]
fn every_variant_keeps_its_budget() {
    if std::env::var_os(CHILD).is_some() {
        return compile_all();
    }
    let Some(driver) = description() else {
        assert!(std::env::var("CI").is_err(), "RADV is not installed: apt-get install mesa-vulkan-drivers");
        println!("RADV is not installed, so nothing was compiled for a GPU: apt-get install mesa-vulkan-drivers");
        return;
    };
    let start = Instant::now();
    // A family is a matter of the environment, so each has a process.
    let child = |family: &str| {
        Command::new(std::env::current_exe().unwrap())
            .args(["every_variant_keeps_its_budget", "--exact", "--nocapture"])
            .env(CHILD, "1")
            .env("RADV_FORCE_FAMILY", family)
            .env("VK_ICD_FILENAMES", &driver)
            .env("VK_DRIVER_FILES", &driver)
            // What was compiled before costs no time and has no statistics.
            .env("MESA_SHADER_CACHE_DISABLE", "true")
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap()
    };
    let children = FAMILIES.map(|family| (family, child(family)));
    let (mut now, mut exact, mut milliseconds) = (Budgets::new(), true, 0);
    for (family, child) in children {
        let output = child.wait_with_output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{family}: {text}");
        let lines = text.lines().filter_map(|line| line.split_once(MARK).map(|(_, rest)| rest));
        for line in lines {
            match line.split_once(' ') {
                Some(("driver", driver)) => {
                    println!("{family}: {driver}");
                    exact &= driver.contains(MESA);
                }
                Some(("ms", ms)) => milliseconds += ms.parse::<u128>().unwrap(),
                _ => now.extend([parse(line).unwrap_or_else(|| panic!("{line}"))]),
            }
        }
    }
    let seconds = milliseconds as f64 / 1e3;
    println!("{} pipelines in {:.1} s, {seconds:.1} s of compiling", now.len(), start.elapsed().as_secs_f64());
    assert!(now.len() > 100, "only {} pipelines", now.len());
    if std::env::var("ALTIPLANO_BUDGET").is_ok_and(|v| v == "write") {
        assert!(exact, "the budget is of {MESA}");
        let mut text = format!(
            "# {MESA}: family, lanes of a workgroup, lanes of a wave, registers, waves, spilled,\n# multiply-adds in a hundred instructions of the hottest loop, floating-point maxima, variant\n"
        );
        now.iter().for_each(|entry| writeln!(text, "{}", line(entry)).unwrap());
        std::fs::write(file(), text).unwrap();
        return;
    }
    let budgets = std::fs::read_to_string(file()).unwrap_or_default();
    let budgets: Budgets = budgets
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| parse(line).unwrap_or_else(|| panic!("budget.txt: {line}")))
        .collect();
    let mut wrong = vec![];
    for (key, now) in &now {
        let why = match budgets.get(key) {
            None => Some(format!("has no budget: {}", line((key, now)))),
            Some(budget) => verdict(*budget, *now, exact),
        };
        wrong.extend(why.map(|why| format!("{} {}: {why}", key.0, key.1)));
        if !exact {
            println!("{}", line((key, now)));
        }
    }
    wrong
        .extend(budgets.keys().filter(|key| !now.contains_key(key)).map(|key| format!("{} {}: is gone", key.0, key.1)));
    // The maximum of a NaN and zero may be zero, and a network whose weights are lost would go on: rectifiers go by bits.
    let rectifying = ["combine", "conv2d", "conv2d_filter", "grouped", "grouped_filter", "max_pool"];
    let hidden =
        now.iter().filter(|((_, variant), _)| rectifying.contains(&variant.split(' ').next().unwrap_or_default()));
    let hidden: Vec<_> = hidden.filter(|(_, now)| now.report.maxima > 0).map(|(key, _)| key).collect();
    assert!(hidden.is_empty(), "a maximum stands where a rectifier should: {hidden:#?}");
    let known: u64 = now.values().map(|now| now.report.spilled).sum();
    println!("{known} registers spill");
    assert!(wrong.is_empty(), "{wrong:#?}\nALTIPLANO_BUDGET=write writes what is there now");
}

/// Compiles for the family of the environment and prints what came of it.
fn compile_all() {
    let compiler = Compiler::open().unwrap();
    let family = std::env::var("RADV_FORCE_FAMILY").unwrap();
    println!("\n{MARK}driver {} ({})", compiler.driver, compiler.name);
    let mut slowest = (0, String::new());
    let mut all = 0;
    for entry in catalogue(Preset::GPU).unwrap() {
        let words = spirv(&entry.variant).unwrap();
        let report = compiler.compile(&words, &entry.interface).unwrap_or_else(|e| panic!("{}: {e}", entry.variant));
        let budget = Budget { lanes: entry.interface.lanes(), report };
        println!("{MARK}{}", line((&(family.clone(), entry.variant.to_string()), &budget)));
        all += report.milliseconds;
        if report.milliseconds > slowest.0 {
            slowest = (report.milliseconds, entry.variant.to_string());
        }
    }
    println!("{MARK}ms {all}");
    eprintln!("{family}: slowest {} ms, {}", slowest.0, slowest.1);
}

#[test]
fn a_budget_is_a_limit() {
    let read = |text: &str| parse(text).unwrap().1;
    let budget = read("navi21 32 32 100 8 5 70 1 conv2d R=3 S=3");
    assert_eq!(line((&parse("navi21 32 32 100 8 5 70 1 a b").unwrap().0, &budget)), "navi21 32 32 100 8 5 70 1 a b");
    for (text, exact, why) in [
        ("navi21 32 32 100 8 5 70 1 v", true, None),
        ("navi21 64 32 90 10 5 70 1 v", true, None),
        ("navi21 32 32 100 8 6 70 1 v", true, Some("spills 6")),
        ("navi21 32 32 100 8 4 70 1 v", true, Some("better")),
        ("navi21 16 32 100 8 5 70 1 v", true, Some("16 lanes")),
        ("navi21 32 32 101 8 5 70 1 v", true, Some("101 registers")),
        ("navi21 32 32 100 7 5 70 1 v", true, Some("7 waves")),
        ("navi21 32 64 100 8 5 70 1 v", true, Some("waves of 64")),
        ("navi21 32 32 100 8 5 69 1 v", true, Some("69 multiply-adds")),
        ("navi21 32 32 100 8 5 70 2 v", false, Some("2 maxima")),
        // Another version of the compiler.
        ("navi21 32 32 120 6 40 70 1 v", false, None),
    ] {
        let verdict = verdict(budget, read(text), exact);
        assert_eq!(verdict.is_some(), why.is_some(), "{text}: {verdict:?}");
        assert!(verdict.is_none_or(|v| v.contains(why.unwrap())), "{text}");
    }
    let clean = read("navi21 32 32 100 8 0 70 1 v");
    assert!(verdict(clean, read("navi21 32 32 120 6 1 70 1 v"), false).is_some());
    assert!(parse("navi21 32 x 100 8 5 70 1 v").is_none());
}
