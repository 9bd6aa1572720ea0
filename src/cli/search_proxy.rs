//! `altiplano search --method croze`

use super::Global;
use super::args::image_info;
use super::configuration::{Configured, to_toml};
use super::progress::duration;
use super::run::in_folder;
use super::search::Args;
use super::train::keep_training;
use crate::data::Dataset;
use crate::error::Result;
use crate::report::folder::RunFolder;
use crate::search::config::Preset;
use crate::search::finals::files;
use crate::search::proxy::{ProxyConfig, ProxyResult, search};

/// Options of searches by proxy.
#[derive(clap::Args)]
pub(super) struct Options {
    /// With croze: the proxy to maximise (default croze_mean; with --compat croze_compat).
    #[arg(long)]
    proxy: Option<String>,
    /// With croze: random, warmup (a random pool, then moves from the best) or mutate (moves from the first).
    #[arg(long)]
    strategy: Option<String>,
    /// With croze: random candidates before the moves of a warm-up.
    #[arg(long)]
    pool: Option<usize>,
    /// With croze: form of the network that is scored, tiny or zero-cost-nas.
    #[arg(long)]
    network: Option<String>,
    /// With croze: images in the batch that proxies see.
    #[arg(long)]
    batch_size: Option<usize>,
    /// With croze or flatnas: most parameters.
    #[arg(long)]
    max_params: Option<u64>,
    /// With croze or flatnas: most multiply-adds for one image.
    #[arg(long)]
    max_macs: Option<u64>,
    /// With croze: attacks that the winner is tested under, such as fgsm:8/255,pgd:8/255:10; an empty text for none.
    #[arg(long)]
    attacks: Option<String>,
}

impl Options {
    /// Most parameters and multiply-adds.
    pub(super) fn limits(&self) -> (Option<u64>, Option<u64>) {
        (self.max_params, self.max_macs)
    }

    fn apply(&self, config: &mut ProxyConfig) -> Result<()> {
        if let Some(text) = &self.proxy {
            config.proxy = text.parse()?;
        }
        if let Some(text) = &self.strategy {
            config.strategy = text.parse()?;
        }
        if let Some(text) = &self.network {
            config.network.clone_from(text);
        }
        if let Some(text) = &self.attacks {
            config.attacks = text.split(',').map(str::trim).filter(|t| !t.is_empty()).map(str::to_owned).collect();
        }
        self.pool.iter().for_each(|v| config.pool = *v);
        self.batch_size.iter().for_each(|v| config.batch = *v);
        self.max_params.iter().for_each(|v| config.max_params = *v);
        self.max_macs.iter().for_each(|v| config.max_macs = *v);
        Ok(())
    }
}

fn configured(global: &Global, args: &Args, data: &Dataset, name: &str) -> Result<ProxyConfig> {
    let source = args.source(global);
    let preset = args.preset.parse::<Preset>()?;
    let space = args.sizes.space_of(&source)?;
    let images = (data.train.len(), &image_info(data));
    let mut config = ProxyConfig::preset(preset, &**space, name, images, args.compat);
    config.seed = global.seed;
    config = source.merged(config)?;
    name.clone_into(&mut config.data);
    space.name().clone_into(&mut config.space);
    args.proxy.apply(&mut config)?;
    config.build = args.sizes.for_data(space, data, config.build)?.build;
    args.training.apply(&mut config.training)?;
    args.time.iter().for_each(|v| config.time = *v);
    args.evaluations.iter().for_each(|v| config.evaluations = *v);
    config.validate(&**space, data.train.len())?;
    Ok(config)
}

pub(super) fn run(global: &Global, args: &Args) -> Result<()> {
    let run = args.configuration(global, &|data, name| configured(global, args, data, name))?;
    let Configured { config, data, .. } = &run;
    let space = global.registry.open(&config.space, config.build.clone())?;
    if args.dry_run {
        return global.print(config, || to_toml(config).unwrap_or_default());
    }
    let (result, folder) = in_folder(&args.place(global)?, &run, &mut |gpu, preset, folder, observer| {
        search(gpu, preset, &space, data, config, folder, observer)
    })?;
    let again = keep_training(&run, &result.best.arch, None, &folder)?;
    global.print(&result, || text(&result, config, &folder, &again))
}

fn text(result: &ProxyResult, config: &ProxyConfig, folder: &RunFolder, again: &str) -> String {
    let best = &result.best;
    let trained = &result.trained;
    let correlation = |name: &str| {
        let value = result.correlations.get(name).copied().flatten();
        value.map_or("-".into(), |v| format!("{v:.2}"))
    };
    let most = match &result.most_params {
        Some(most) => format!("most parameters: {} ({}, score {:.6})\n", most.params, most.arch, most.fitness),
        None => String::new(),
    };
    let files: String = files(folder).iter().map(|f| format!("    {}\n", f.display())).collect();
    let how = match config.training.adversarial {
        Some(a) => format!(", on images moved by PGD-{} of {:.3}/255", a.steps, 255.0 * a.eps),
        None => String::new(),
    };
    let short = match result.evaluated < config.evaluations && config.time == 0.0 {
        true => format!(" ({} were asked for, but no more were found within the limits)", config.evaluations),
        false => String::new(),
    };
    format!(
        "found {}\n    {} {:.6}, {} parameters, {} multiply-adds, best of {} candidates{short}\n{most}rank correlation of the score with parameters {}, with multiply-adds {}\ntrained {} epochs with {}{how}: {:.2} % of {} test images right (loss {:.4})\n{}files:\n{files}train it again:\n    {again}\n{} in all",
        best.arch,
        config.proxy.name(),
        best.fitness,
        best.params,
        best.macs,
        result.evaluated,
        correlation("params"),
        correlation("macs"),
        trained.epochs,
        trained.optimizer,
        100.0 * trained.clean_accuracy,
        trained.test_images,
        trained.clean_loss,
        trained.lines(),
        duration(result.seconds),
    )
}
