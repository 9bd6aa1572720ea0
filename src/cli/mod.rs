//! The command line: one file per subcommand, from raw arguments to a call into the library.
//!
//! Progress and logs go to stderr, results to stdout; with `--json` stdout has one JSON document and nothing else. Exit
//! codes: 0 done, 1 failed while running, 2 wrong arguments or input.

mod architectures;
mod args;
mod baseline;
mod bench;
mod classify;
mod compare;
mod completions;
mod configuration;
mod correlate;
mod corrupt;
mod data;
mod devices;
mod earlier;
mod evaluate;
mod export;
mod first;
mod flatness;
mod inputs;
mod landscape;
mod man;
mod model;
mod names;
mod pictures;
mod place;
mod progress;
mod rank;
mod report;
mod run;
mod score;
mod search;
mod selftest;
mod signs;
mod space;
mod step;
mod tiles;
mod told;
mod train;
mod tune;
mod visible;
mod watch;

use std::process::ExitCode;
use std::time::Duration;

use clap::parser::ValueSource;
use clap::{ArgMatches, CommandFactory, FromArgMatches, Parser, Subcommand};
use serde::Serialize;

use crate::error::{Error, Result};
use crate::gpu::{Gpu, MAX_SUBMIT, MOST_SUBMIT, Options};
use crate::kernels::Preset;
use crate::nn::space::Registry;

/// Robust neural-architecture search on any GPU.
#[derive(Parser)]
#[command(name = "altiplano", version, about, max_term_width = 100)]
struct Cli {
    #[command(flatten, next_help_heading = "Of all commands")]
    global: Global,
    #[command(subcommand)]
    command: Option<Command>,
}

/// Options of every command.
#[derive(clap::Args, Clone)]
pub(crate) struct Global {
    /// Adapter: its index or part of its name (`altiplano devices` lists them).
    #[arg(long, global = true)]
    device: Option<String>,
    /// Seed of all random numbers.
    #[arg(long, global = true, default_value_t = 1, allow_negative_numbers = true)]
    seed: u64,
    /// Run shaders with bounds checks and loop bounds.
    #[arg(long, global = true)]
    checked: bool,
    /// Longest submission to the device in milliseconds, by estimate; smaller ones help where a driver resets a device that works
    /// long.
    #[arg(long, global = true, value_name = "N", default_value_t = MAX_SUBMIT.as_millis() as u64,
        value_parser = clap::value_parser!(u64).range(1..=MOST_SUBMIT.as_millis() as u64))]
    max_submit_ms: u64,
    /// Device memory that may be taken, in MiB (default: all that the driver gives). With less, fewer networks lie side by side.
    #[arg(long, global = true, value_name = "MIB", value_parser = clap::value_parser!(u64).range(1..=1 << 30))]
    memory: Option<u64>,
    /// Print one JSON document and nothing else on stdout.
    #[arg(long, global = true)]
    json: bool,
    /// More log lines; twice for even more.
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    verbose: u8,
    /// No progress.
    #[arg(short, long, global = true)]
    quiet: bool,
    /// Options that stand on the command line, as they are written in full.
    #[arg(skip)]
    given: Vec<String>,
    /// The search spaces that the program knows.
    #[arg(skip)]
    registry: Registry,
}

#[derive(Subcommand)]
enum Command {
    /// List adapters, their limits, and which one is chosen and why; --explain looks for one that is missing.
    Devices(devices::Args),
    /// Parameters and multiply-adds of architectures.
    Space(space::Args),
    /// Search for an architecture.
    Search(Box<search::Args>),
    /// Finished searches beside each other, seed by seed: what they found, and what they are held against.
    Compare(compare::Args),
    /// A run, or several over each other, as one page: report.html.
    Report(report::Args),
    /// Runs that go on, as they are now: what they do, how long that takes, the best so far. Their folders are read alone.
    Watch(watch::Args),
    /// Accuracy, flatness and angle of architectures with the weights of a search's supernet.
    Rank(rank::Args),
    /// Zero-cost proxies of untrained networks.
    Score(score::Args),
    /// Rank correlation of proxy scores with known accuracies, beside params, flops and chance.
    Correlate(correlate::Args),
    /// Train one architecture from scratch, or from a supernet's weights.
    Train(train::Args),
    /// One forward pass, on request backward and update, on given tensors.
    Step(step::Args),
    /// Loss of a trained model under weight noise.
    Flatness(flatness::Args),
    /// Loss around a trained model along random directions, as pictures.
    Landscape(Box<landscape::Args>),
    /// Accuracy of a trained model on clean, corrupted and attacked images.
    Evaluate(evaluate::Args),
    /// What a trained model takes pictures for.
    Classify(classify::Args),
    /// A trained model for other programs: as ONNX, and with a card.
    Export(export::Args),
    /// Corrupted copies of an image, a folder of images, an array or a data set.
    Corrupt(corrupt::Args),
    /// Time kernels, steps and populations.
    Bench(bench::Args),
    /// Look for convolution tiles that make training steps faster on this adapter, and keep them.
    Tune(tune::Args),
    /// List, describe and verify data sets.
    Data(data::Args),
    /// Check kernels, gradients and determinism on this adapter.
    Selftest,
    /// A script by which a shell completes commands and options.
    Completions(completions::Args),
    /// Manual pages, one of each command.
    Man(man::Args),
}

/// Runs the program.
pub fn main() -> ExitCode {
    main_with(Registry::default())
}

/// Runs the program with search spaces of one's own, which all commands take then.
pub fn main_with(registry: Registry) -> ExitCode {
    let command = Cli::command();
    let parsed = command.clone().try_get_matches().and_then(|matches| {
        let mut cli = Cli::from_arg_matches(&matches)?;
        cli.global.given = given(&command, &matches);
        cli.global.registry = registry;
        Ok(cli)
    });
    let cli = match parsed {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version go to stdout with code 0, everything else to stderr with code 2. Who reads only the beginning has
            // seen what they wanted, and wrong arguments stay wrong when nobody listens.
            let lost = error.print().is_err_and(|e| e.kind() != std::io::ErrorKind::BrokenPipe);
            let code = if lost && !error.use_stderr() { 1 } else { error.exit_code() as u8 };
            return ExitCode::from(code);
        }
    };
    let level = match (cli.global.quiet, cli.global.verbose) {
        (true, _) => "error",
        (_, 0) => "warn",
        (_, 1) => "altiplano=info",
        _ => "altiplano=debug,wgpu_core=warn,wgpu_hal=warn",
    };
    // A driver's complaints about the desktop are of no use to anybody here.
    let quiet_drivers = format!("{level},wgpu_hal=error,wgpu_core=error");
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or(quiet_drivers)).init();
    quiet_losses();
    let global = cli.global;
    let Some(command) = cli.command else {
        devices::own_manifest::begin_anew_if_needed(&global);
        return exit(first::run(&global));
    };
    if command.needs_adapter() {
        devices::own_manifest::begin_anew_if_needed(&global);
    }
    exit(match command {
        Command::Devices(args) => devices::run(&global, &args),
        Command::Space(args) => space::run(&global, &args),
        Command::Search(args) => search::run(&global, &args),
        Command::Compare(args) => compare::run(&global, &args),
        Command::Report(args) => report::run(&global, &args),
        Command::Watch(args) => watch::run(&global, &args),
        Command::Rank(args) => rank::run(&global, &args),
        Command::Score(args) => score::run(&global, &args),
        Command::Correlate(args) => correlate::run(&global, &args),
        Command::Train(args) => train::run(&global, &args),
        Command::Step(args) => step::run(&global, &args),
        Command::Flatness(args) => flatness::run(&global, &args),
        Command::Landscape(args) => landscape::run(&global, &args),
        Command::Evaluate(args) => evaluate::run(&global, &args),
        Command::Classify(args) => classify::run(&global, &args),
        Command::Export(args) => export::run(&global, &args),
        Command::Corrupt(args) => corrupt::run(&global, &args),
        Command::Bench(args) => bench::run(&global, &args),
        Command::Tune(args) => tune::run(&global, &args),
        Command::Data(args) => data::run(&global, &args),
        Command::Selftest => selftest::run(&global),
        Command::Completions(args) => completions::run(&global, &args, Cli::command()),
        Command::Man(args) => man::run(&global, &args, Cli::command()),
    })
}

impl Command {
    /// Whether it opens an adapter, or lists them.
    fn needs_adapter(&self) -> bool {
        !matches!(
            self,
            Command::Space(_)
                | Command::Compare(_)
                | Command::Report(_)
                | Command::Watch(_)
                | Command::Correlate(_)
                | Command::Export(_)
                | Command::Corrupt(_)
                | Command::Data(_)
                | Command::Completions(_)
                | Command::Man(_)
        )
    }
}

/// Says what went wrong, if something did.
fn exit(result: Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            progress::say(&format!("error: {error}"));
            ExitCode::from(error.exit_code())
        }
    }
}

/// Leaves out what the graphics library says in its panic when the device is lost: the error says it, with advice.
fn quiet_losses() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        let text = info.payload().downcast_ref::<String>();
        if !text.is_some_and(|text| text.starts_with("Error in Device::poll")) {
            usual(info);
        }
    }));
}

/// Options of the subcommand that stand on the command line.
fn given(command: &clap::Command, matches: &ArgMatches) -> Vec<String> {
    let Some((name, matches)) = matches.subcommand() else { return vec![] };
    let own = command.find_subcommand(name).into_iter().flat_map(clap::Command::get_arguments);
    let there = |option: &&clap::Arg| matches.value_source(option.get_id().as_str()) == Some(ValueSource::CommandLine);
    let options = command.get_arguments().chain(own).filter(there);
    options.filter_map(|option| Some(format!("--{}", option.get_long()?))).collect()
}

impl Global {
    /// Whether an option stands on the command line.
    fn was_given(&self, option: &str) -> bool {
        self.given.iter().any(|own| own == option)
    }

    /// Opens the adapter.
    fn open(&self) -> Result<Gpu> {
        let max_submit = Some(Duration::from_millis(self.max_submit_ms));
        Gpu::open_wait(&Options {
            device: self.device.clone(),
            checked: self.checked,
            max_submit,
            memory: self.memory.map(|mib| mib << 20),
            ..Options::default()
        })
    }

    /// Opens the adapter, with tuned tiles where there are some.
    fn gpu(&self) -> Result<(Gpu, Preset)> {
        let gpu = self.open()?;
        let preset = tiles::preset(gpu.report());
        Ok((gpu, preset))
    }

    /// Prints a result: as JSON, or as `text` says.
    fn print<T: Serialize>(&self, value: &T, text: impl FnOnce() -> String) -> Result<()> {
        use std::io::Write;
        let mut out = std::io::stdout().lock();
        let written = if self.json {
            let json = serde_json::to_string_pretty(value).map_err(|e| Error::invalid("--json", e.to_string()))?;
            writeln!(out, "{json}")
        } else {
            writeln!(out, "{}", text().trim_end())
        };
        match written {
            // Who reads only the beginning has seen what they wanted.
            Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
            other => other.map_err(Error::io("write", "stdout")),
        }
    }
}

#[cfg(test)]
mod documented_tests;
