//! Files of settings that earlier versions wrote: where their keys are now.

use toml::{Table, Value};

/// Old keys and new ones, in tables with dots. A whole table goes into what is there of the new one.
const MOVED: [(&str, &str); 22] = [
    ("channels", "build.channels"),
    ("cells", "build.cells"),
    ("image", "build.image"),
    ("candidates.sigma", "evaluator.noise.sigma"),
    ("candidates.draws", "evaluator.noise.draws"),
    ("candidates.batch", "evaluator.noise.batch"),
    ("candidates", "evaluator"),
    ("evaluation", "evaluator"),
    ("evolution", "strategy"),
    ("search", "strategy"),
    ("protocol", "strategy.protocol"),
    ("pool", "strategy.pool"),
    ("moves", "strategy.moves"),
    ("train_share", "evaluator.train_share"),
    ("proxy", "evaluator.proxy"),
    ("network", "evaluator.network"),
    ("batch", "evaluator.scored_batch"),
    ("alpha", "objectives.alpha"),
    ("seeds", "finals.seeds"),
    ("final_images", "finals.images"),
    ("attacks", "finals.attacks"),
    ("baseline", "arms"),
];

/// Those of searches by a proxy.
const OF_PROXIES: [&str; 6] = ["proxy", "network", "batch", "pool", "moves", "attacks"];

/// Where it stood whether multiply-adds are minimised besides.
const MACS: [&str; 2] = ["minimize_macs", "objectives.minimize_macs"];

/// Whether settings were laid out as earlier versions did.
pub(super) fn is_earlier(settings: &Table) -> bool {
    // All searches say what they minimise.
    let lacks = settings.contains_key("method") && !settings.contains_key("minimize");
    MOVED.iter().any(|(old, _)| settings.contains_key(*old)) || lacks
}

/// Makes a list of what is minimised of whether multiply-adds are. Whether there was anything.
fn minimized(given: &mut Table) -> bool {
    let Some(macs) = MACS.into_iter().filter_map(|key| take(given, key)).last() else { return false };
    let names = if macs.as_bool() == Some(true) { &["params", "macs"][..] } else { &["params"] };
    put(given, "minimize", Value::Array(names.iter().map(|name| Value::from(*name)).collect()));
    true
}

/// Moves what stands where earlier versions had it; `default` are settings of today, whose tables say what it can be. Whether there
/// was anything.
pub(super) fn moved(given: &mut Table, default: &Table) -> bool {
    let new = |key: &str| key.split('.').next().unwrap_or_default().to_owned();
    let was_there = default.contains_key("minimize") && minimized(given);
    let evaluator = default.get("evaluator");
    let is_proxy = evaluator.and_then(|evaluator| evaluator.get("kind")).and_then(Value::as_str) == Some("proxy");
    // Others have no such key, and never had.
    let counts = |old: &str| !OF_PROXIES.contains(&old) || is_proxy;
    let moved: Vec<(&str, &str)> =
        MOVED.into_iter().filter(|(old, to)| default.contains_key(&new(to)) && counts(old)).collect();
    if !moved.iter().any(|(old, _)| given.contains_key(&new(old)) && !default.contains_key(&new(old))) {
        return was_there;
    }
    evaluations(given);
    // Candidates at random had the sizes of an evolution, of which one counted.
    let kind = default.get("strategy").and_then(|strategy| strategy.get("kind")).and_then(Value::as_str);
    if kind == Some("random") {
        let population = take(given, "evolution.population");
        population.into_iter().for_each(|population| put(given, "strategy.batch", population));
        ["evolution", "protocol"].iter().for_each(|key| drop(given.remove(*key)));
    }
    if let Some(Value::String(strategy)) = given.get("strategy") {
        let kind = if strategy == "random" { "random" } else { "moves" };
        let pool = (strategy == "mutate").then(|| ("pool".to_owned(), Value::from(1)));
        let table = std::iter::once(("kind".to_owned(), kind.into())).chain(pool).collect();
        given.insert("strategy".to_owned(), Value::Table(table));
    }
    if let Some(proxy) = given.get("proxy").filter(|_| is_proxy).cloned() {
        put(given, "objectives.maximize", proxy);
    }
    for (old, new) in moved {
        let Some(value) = take(given, old) else { continue };
        match (old, value.as_bool()) {
            // Without a baseline a search stood alone.
            ("baseline", Some(true)) => {}
            ("baseline", _) => {
                let first = default.get("arms").and_then(|arms| arms.get(0)).cloned();
                put(given, new, Value::Array(first.into_iter().collect()));
            }
            _ => put(given, new, value),
        }
    }
    true
}

/// Puts the number of evaluations in place of that of generations.
fn evaluations(given: &mut Table) {
    let number = |given: &Table, key: &str| {
        let mut parts = key.split('.');
        let first = parts.next().and_then(|first| given.get(first));
        parts.fold(first, |value, part| value.and_then(|value| value.get(part))).and_then(Value::as_integer)
    };
    let genas = number(given, "evolution.population").zip(number(given, "evolution.generations"));
    let flatnas = number(given, "search.initial").zip(number(given, "search.picks")).zip(number(given, "generations"));
    let all = genas.map(|(population, generations)| population.saturating_mul(generations)).or_else(|| {
        flatnas.map(|((initial, picks), generations)| initial.saturating_add(picks.saturating_mul(generations)))
    });
    take(given, "generations");
    take(given, "evolution.generations");
    // 0 stood for all that the generations had.
    if number(given, "evaluations") == Some(0) {
        given.remove("evaluations");
    }
    if let (Some(all), false) = (all, given.contains_key("evaluations")) {
        given.insert("evaluations".to_owned(), all.into());
    }
}

fn take(from: &mut Table, key: &str) -> Option<Value> {
    match key.split_once('.') {
        Some((table, rest)) => take(from.get_mut(table)?.as_table_mut()?, rest),
        None => from.remove(key),
    }
}

fn put(into: &mut Table, key: &str, value: Value) {
    let (first, rest) = key.split_once('.').map_or((key, None), |(first, rest)| (first, Some(rest)));
    match (rest, value) {
        (Some(rest), value) => {
            if let Value::Table(inner) = into.entry(first).or_insert_with(|| Table::new().into()) {
                put(inner, rest, value);
            }
        }
        (None, Value::Table(all)) if into.get(first).is_some_and(Value::is_table) => {
            if let Some(Value::Table(inner)) = into.get_mut(first) {
                inner.extend(all);
            }
        }
        (None, value) => drop(into.insert(first.to_owned(), value)),
    }
}
