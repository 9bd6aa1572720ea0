//! `altiplano search`

mod options;
mod plan;
pub(super) mod text;
mod truth;

use std::path::Path;

use super::Global;
use super::args::image_info;
use super::configuration::{Configured, Extension, FILE, Source, table};
use super::progress::note;
use super::report;
use super::run::{Place, in_folder};
use super::train::keep_training;
use crate::data::{Dataset, absolute};
use crate::error::{Error, Result};
use crate::nn::space::Family;
use crate::report::folder::{REPORT, RunFolder, SUPERNET};
use crate::search::archive::{self, Entry};
use crate::search::budget::Work;
use crate::search::config::{Preset, SearchConfig};
use crate::search::evaluate::EvaluatorConfig;
use crate::search::methods::{Method, Situation};
use crate::search::result::SearchResult;
use crate::search::run::{Given, Task, search};
use crate::search::strategy::StrategyConfig;
use crate::search::surrogate::Kind;
use crate::train::supernet;

pub(super) use options::Args;

impl Args {
    /// Where the run's configuration comes from.
    fn source<'a>(&'a self, global: &'a Global) -> Source<'a> {
        let extension = self.extend.then(|| Extension {
            keys: [
                ("evaluations", self.evaluations.map(|v| toml::Value::from(v as i64))),
                ("time", self.time.map(Into::into)),
            ]
            .into_iter()
            .filter_map(|(key, value)| Some((key.to_owned(), value?)))
            .collect(),
        });
        Source {
            global,
            out: self.out.as_deref(),
            resume: self.resume || self.extend,
            file: self.config.as_deref(),
            inputs: vec![("supernet_file", self.supernet.as_deref()), ("warm_start", self.warm_start.as_deref())],
            reading: &self.reading,
            extension,
        }
    }

    /// The run's folder.
    fn place<'a>(&'a self, global: &'a Global) -> Result<Place<'a>> {
        let Args { out, resume, extend, force, strict, .. } = self;
        let out = out.as_deref().ok_or_else(|| Error::invalid("--out", "is needed: a folder for the results"))?;
        Ok(Place { global, out, resume: *resume || *extend, force: *force, strict: *strict })
    }

    /// The configuration of a new run.
    fn configured(&self, global: &Global, data: &Dataset, name: &str, method: Method) -> Result<SearchConfig> {
        let source = self.source(global);
        let space = self.sizes.space_of(&source)?;
        let situation = Situation {
            preset: self.preset.parse::<Preset>()?,
            space: &**space,
            data: name,
            images: data.train.len(),
            info: &image_info(data),
            compat: source.switch("compat", self.compat)?,
        };
        let mut config = method.preset(&situation);
        let evaluations = self.evaluations.unwrap_or(config.evaluations);
        let named = |name: &str| StrategyConfig::named(name, evaluations, situation.compat);
        if let Some(name) =
            source.text("strategy", self.strategy.as_deref())?.filter(|name| !config.strategy.is_called(name))
        {
            config.strategy = named(&name)?;
        }
        config.seed = global.seed;
        let (usual, first) = (config.finals.contestants.clone(), config.arms[0].clone());
        let published = config.finals.build.clone();
        config = source.merged(config, &|key| options::owner(key, &situation).map(|method| method.to_string()))?;
        // A run that is gone on with has a strategy of its own, which this must be.
        if let Some(name) = self.strategy.as_ref().filter(|name| !config.strategy.is_called(name)) {
            config.strategy = named(name)?;
        }
        name.clone_into(&mut config.data);
        self.reading.over(&mut config.reading);
        space.name().clone_into(&mut config.space);
        config = self.apply(config, &situation)?;
        for (path, key) in [(&self.supernet, &mut config.supernet_file), (&self.warm_start, &mut config.warm_start)] {
            if let Some(path) = path {
                *key = Some(absolute(path)?);
            }
        }
        if config.finals.contestants == usual {
            config.finals.contestants = config.contestants_of_arms(&first);
        }
        self.apply_training(&mut config)?;
        let family = self.sizes.for_data(space, data, config.build)?;
        config.build = family.build.clone();
        // Sizes that are asked for are those of all networks.
        let sized = ["--channels", "--cells", "--build"].iter().any(|option| global.was_given(option));
        if sized && config.finals.build == published {
            config.finals.build = None;
        }
        if let Some(own) = &mut config.finals.build {
            // Networks at the end see what candidates see, if without what smaller images leave no place for.
            own.image = config.build.image;
            if space.check_build(own).is_err() {
                let options = space.published_training().map_or(&[][..], |training| training.options);
                options.iter().for_each(|&(name, _)| drop(own.options.insert(name.to_owned(), 0.0.into())));
            }
        }
        self.apply_generations(global, &mut config, &family)?;
        config.validate(&family, data.train.len())?;
        config.check_training(&family, [data.train.height, data.train.width])?;
        let fresh = family.is_elastic() && config.supernet().is_none();
        if let (true, EvaluatorConfig::Trained(options)) = (fresh, &config.evaluator) {
            let why = format!(
                "with --supernet-epochs 0 networks begin with fresh weights and train as briefly as if they had inherited some: {} epochs \
                 as candidates, {} at the end (--candidate-epochs, --epochs)",
                options.training.epochs, config.training.epochs
            );
            note(global, &why);
        }
        for idle in config.limits().idle(&config.finals.family(&family)?)? {
            note(global, &idle);
        }
        let first = config.strategy.begins_with();
        if config.evaluations <= first && config.strategy.name() != "random" && self.dry_run {
            note(
                global,
                &format!("the first {first} candidates are random, and there are no more: the strategy chooses none"),
            );
        }
        Ok(config)
    }

    /// The options of training hold for candidates too, but the epochs, which are few there.
    fn apply_training(&self, config: &mut SearchConfig) -> Result<()> {
        self.training.apply(&mut config.training)?;
        if let EvaluatorConfig::Trained(options) = &mut config.evaluator {
            let epochs = options.training.epochs;
            self.training.apply(&mut options.training)?;
            options.training.epochs = epochs;
        }
        Ok(())
    }

    /// Evaluations by generations, and what a surrogate needs.
    fn apply_generations(&self, global: &Global, config: &mut SearchConfig, family: &Family) -> Result<()> {
        let StrategyConfig::Surrogate(settings) = config.strategy else { return Ok(()) };
        if let Some(generations) = self.generations {
            let most = 1 << 20;
            if generations > most {
                return Err(Error::invalid("--generations", format!("is {generations}, expected at most {most}")));
            }
            let all = settings.initial.saturating_add(settings.each().saturating_mul(generations as usize));
            config.evaluations = if self.evaluations.is_some() { all.min(config.evaluations) } else { all };
        }
        // A model of fewer samples than it has coefficients would fall back to another in every generation.
        let features = family.features(&family.smallest()).len();
        if config.evaluations > settings.initial {
            settings.surrogate.check_samples(settings.initial, features)?;
        }
        let needed = Kind::Rbf.needs(features);
        if settings.surrogate == Kind::Adaptive && config.evaluations < needed && !self.resume {
            let why = format!(
                "the surrogate is trees throughout: rbf and gp need {needed} samples and more with {features} features, and there will \
                 be {}",
                config.evaluations
            );
            note(global, &why);
        }
        if settings.surrogate == Kind::None && global.was_given("--picks") {
            let why = "is for surrogates; without one a generation is a population (--population)";
            return Err(Error::invalid("--picks", why));
        }
        Ok(())
    }
}

/// The method of the run that is to be gone on with, or else the one that was asked for.
fn method(global: &Global, args: &Args) -> Result<Method> {
    let source = args.source(global);
    let asked = source.text("method", Some(&args.method))?.unwrap_or_default();
    let Some(stored) = source.begun_with("method")? else {
        return match (asked.parse::<Method>(), &args.config) {
            (Err(why), Some(path)) if !global.was_given("--method") => Err(Error::file(path, None, why.to_string())),
            (found, _) => found,
        };
    };
    let begun = stored.unwrap_or_else(|| asked.clone());
    if global.was_given("--method") && asked != begun {
        return Err(Error::invalid("--method", format!("is {asked}, but the run was begun with {begun}")));
    }
    begun.parse()
}

pub(super) fn run(global: &Global, args: &Args) -> Result<()> {
    if args.truth.is_some() {
        return truth::run(global, args);
    }
    if let Some(option) = ["--maximize", "--plot"].into_iter().find(|option| global.was_given(option)) {
        return Err(Error::invalid(option, "is for searches in a table; give one with --truth"));
    }
    if args.extend && args.evaluations.is_none() && args.time.is_none() {
        return Err(Error::invalid("--extend", "to what? Give --evaluations or --time"));
    }
    if let (Some(count), Some(out)) = (args.search_seeds, &args.out) {
        return several(global, args, out, count);
    }
    if let Some((result, folder, again)) = one(global, args)? {
        let kept = result.kept()?;
        global.print(&result, || text::found((&result, kept), &folder, &again))?;
    }
    Ok(())
}

/// Searches once, or with `--dry-run` says what that would take; the result, its folder, and the command that trains the network again.
fn one(global: &Global, args: &Args) -> Result<Option<(SearchResult, RunFolder, String)>> {
    let method = method(global, args)?;
    let make = |data: &Dataset, name: &str| args.configured(global, data, name, method);
    let run = args.source(global).configuration(Some(&args.data), &make)?;
    let Configured { config, data, .. } = &run;
    let family = global.registry.open(&config.space, config.build.clone())?;
    if args.dry_run {
        let work = Work::of(config, &family, data.train.len(), data.test.len())?;
        return plan::print(global, config, &work).map(|()| None);
    }
    let given = given(config, &family)?;
    let (result, folder) = in_folder(&args.place(global)?, &run, &mut |gpu, preset, folder, observer| {
        search(&Task { gpu, preset, family: &family, data, config, given: &given }, folder, observer)
    })?;
    let images = config.finals.training_images(data.train.len());
    let kept = result.kept()?;
    let recipe = config.training.with_optimizer(kept.optimizer);
    // The network at the end, which may be built otherwise than candidates.
    let build = &config.finals.family(&family)?.build;
    let again = keep_training(&run, (&kept.arch, build, &recipe), images, &folder)?;
    report::write(global, &folder);
    Ok(Some((result, folder, again)))
}

/// Searches with several seeds, each in a folder of its own, and compares what was found.
fn several(global: &Global, args: &Args, out: &Path, count: u64) -> Result<()> {
    let beyond = || format!("{} and {count} seeds from there are beyond the largest number", global.seed);
    let end = global.seed.checked_add(count).ok_or_else(|| Error::invalid("--seed", beyond()))?;
    let mut folders = vec![];
    for seed in global.seed..end {
        let folder = out.join(format!("seed-{seed}"));
        let (begun, done) = (folder.join(FILE).exists(), folder.join("result.json").exists());
        let own = Global { seed, given: [&global.given[..], &["--seed".to_owned()]].concat(), ..global.clone() };
        let mut search = args.clone();
        (search.out, search.resume) = (Some(folder.clone()), begun && !args.force);
        if search.resume && done {
            // It must be a search with these settings.
            let method = method(&own, &search)?;
            let make = |data: &Dataset, name: &str| search.configured(&own, data, name, method);
            search.source(&own).configuration(Some(&search.data), &make)?;
        } else {
            note(global, &format!("search {} of {count}, with seed {seed}", seed - global.seed + 1));
            one(&own, &search)?;
        }
        folders.push(folder);
    }
    report::write_several(&folders, &out.join(REPORT));
    super::compare::of(global, &folders)
}

/// Reads what a run begins with.
fn given(config: &SearchConfig, family: &Family) -> Result<Given> {
    let mut given = Given::default();
    if let Some(path) = &config.supernet_file {
        let own = supernet::Given::read(Path::new(path), family, config.evaluator.needs_supernet())?;
        given.supernet = Some(own);
    }
    if let Some(path) = &config.warm_start {
        given.warm = warm(config, family, Path::new(path))?;
    }
    Ok(given)
}

/// Candidates of another run, whose networks and measures must be this one's.
fn warm(config: &SearchConfig, family: &Family, path: &Path) -> Result<Vec<Entry>> {
    let beside = path.with_file_name(FILE);
    if beside.exists() {
        let theirs = std::fs::read_to_string(&beside).map_err(Error::io("read", &beside))?;
        let theirs: toml::Table = toml::from_str(&theirs).map_err(|e| Error::file(&beside, None, e.to_string()))?;
        let own = table(config)?;
        let parts = ["space", "data", "reading", "build", "evaluator", "seed", "supernet", "supernet_file"];
        // Weights that candidates share must be the same ones.
        let theirs_too = config.supernet_file == absolute(&path.with_file_name(SUPERNET)).ok();
        // So must those that candidates begin with.
        let inherit = config.supernet().is_some() || theirs.contains_key("supernet_file");
        let needed =
            if (config.evaluator.needs_supernet() || inherit) && !theirs_too { &parts[..] } else { &parts[..5] };
        if let Some(key) = needed.iter().find(|key| own.get(**key) != theirs.get(**key)) {
            let why = format!(
                "was measured with another `{key}` ({}): what it says would not be this search's",
                beside.display()
            );
            return Err(Error::file(path, None, why));
        }
    }
    let text = std::fs::read_to_string(path).map_err(Error::io("read", path))?;
    let mut all: Vec<Entry> = vec![];
    for line in archive::entries(path, text.lines()) {
        let (number, mut entry) = line?;
        let fail = |why: String| archive::at(path, number, &why);
        // Earlier versions wrote down the error alone.
        if let Some(error) = entry.measures.get("error").copied() {
            entry.measures.entry("accuracy".to_owned()).or_insert(1.0 - error / 100.0);
        }
        // Of a run with several arms, those of the search itself.
        if all.first().is_some_and(|first| first.arm != entry.arm) {
            continue;
        }
        let cost = family.parse(&entry.arch).and_then(|arch| family.cost(&arch)).map_err(|e| fail(e.to_string()))?;
        if entry.cost() != cost {
            let why = format!(
                "{} parameters and {} multiply-adds, and {} and {} in this search: its networks are built otherwise",
                entry.params, entry.macs, cost.params, cost.macs
            );
            return Err(fail(why));
        }
        let needed = config.objectives.measures();
        if let Some(name) = needed.into_iter().find(|name| !entry.measures.contains_key(*name)) {
            return Err(fail(format!(
                "`{name}` was not measured, which this search maximises; it is of another method"
            )));
        }
        all.push(entry);
    }
    match all.is_empty() {
        true => Err(Error::file(path, None, "holds no candidate")),
        false => Ok(all),
    }
}
