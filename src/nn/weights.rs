//! Weights that others saved: reading them, and what of them fits a network. Everything that takes a file of weights goes this
//! way, and tells its user what was found, in the same words.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::tensors::{Named, read};
use crate::error::{Error, Result};
use crate::graph::store::Contents;
use crate::graph::{Graph, Role};

/// What wrappers put before every name: `DataParallel` and `AveragedModel`, and `torch.compile`.
const WRAPPERS: [&str; 2] = ["module.", "_orig_mod."];
/// PyTorch's counter in a batch norm, which nothing here needs.
const COUNTER: &str = "num_batches_tracked";
/// Most names in a message.
const LISTED: usize = 3;

/// A file of weights.
#[derive(Clone, Debug)]
pub struct Weights {
    /// Where it was read from.
    pub path: PathBuf,
    /// Its tensors, without wrappers' prefixes.
    pub named: Named,
    /// Its metadata.
    pub metadata: BTreeMap<String, String>,
    /// What a user should know of how it was read.
    pub notes: Vec<String>,
}

/// How much of a network's tensors a file holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fit {
    /// Tensors of the network that are there.
    pub inherited: usize,
    /// Tensors of the network.
    pub of: usize,
    /// Names of those that are not.
    pub missing: Vec<String>,
    /// Tensors of the file that the network has not, but for counters.
    pub extra: usize,
}

/// How a model's classes go with those of some data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Classes {
    /// The same.
    Same,
    /// As many, and the model or the data has numbers for names, which say nothing.
    Unnamed,
    /// The same in another order: the rows of the classifier were reordered.
    Reordered,
    /// Others.
    Different,
}

impl Weights {
    /// Reads a file.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be read, [`Error::File`] if it is no safetensors file of numbers; a PyTorch file gets the
    /// lines that convert it.
    pub fn read(path: &Path) -> Result<Self> {
        if path.is_dir() {
            let why = "is a folder; expected a file of weights, such as best.safetensors in the folder of a run";
            return Err(Error::file(path, None, why));
        }
        let (mut named, metadata, converted) = read(path)?;
        let mut notes = vec![];
        for (dtype, count) in converted {
            notes.push(format!("{count} tensors of type {dtype} were converted to F32"));
        }
        while let Some(prefix) = WRAPPERS.iter().find(|prefix| wraps(&named, prefix)) {
            let bare = |name: String| name.strip_prefix(prefix).map_or_else(|| name.clone(), str::to_owned);
            named = named.into_iter().map(|(name, values)| (bare(name), values)).collect();
            notes.push(format!("the prefix `{prefix}` of a wrapper was taken off all names"));
        }
        Ok(Weights { path: path.to_owned(), named, metadata, notes })
    }

    /// The tensors of the network `graph` that are here, under its own names, and how many these are. `name` says what the
    /// file may call a tensor of the network, besides that tensor's own name.
    ///
    /// # Errors
    /// If two stores of the graph disagree, or nothing is here.
    pub fn fit(&self, graph: &Graph, name: &dyn Fn(&str) -> Option<String>) -> Result<(Named, Fit)> {
        let wanted = Contents::of(graph, &[Role::Weights, Role::Running])?.entries;
        let (mut found, mut missing, mut used) = (Named::new(), vec![], vec![]);
        for own in wanted.keys() {
            let theirs = name(own).filter(|theirs| self.named.contains_key(theirs)).unwrap_or_else(|| own.clone());
            match self.named.get(&theirs) {
                Some(values) => {
                    found.insert(own.clone(), values.clone());
                    used.push(theirs);
                }
                None => missing.push(own.clone()),
            }
        }
        let extra = self.named.keys().filter(|name| !name.ends_with(COUNTER) && !used.contains(name)).count();
        let fit = Fit { inherited: found.len(), of: wanted.len(), missing, extra };
        if found.is_empty() {
            let theirs = listed(self.named.keys().map(String::as_str), self.named.len());
            let why = format!(
                "none of its {} tensors ({theirs}) is one of the {} of the network ({}); is it the right file, and the right \
                 architecture?",
                self.named.len(),
                fit.of,
                listed(fit.missing.iter().map(String::as_str), fit.missing.len()),
            );
            return Err(Error::file(&self.path, None, why));
        }
        Ok((found, fit))
    }

    /// All tensors of the network `graph`.
    ///
    /// # Errors
    /// As [`Weights::fit`], and if one is missing.
    pub fn whole(&self, graph: &Graph) -> Result<Named> {
        let (found, fit) = self.fit(graph, &|_| None)?;
        match fit.missing.is_empty() {
            true => Ok(found),
            false => Err(Error::file(&self.path, None, fit.to_string() + "; is it the right architecture?")),
        }
    }

    /// Puts the rows of the layer `classifier`, whose classes are `theirs`, into the order of the classes `ours`, if they are the
    /// same.
    pub fn align(&mut self, classifier: &str, theirs: &[String], ours: &[String]) -> Classes {
        if theirs == ours {
            return Classes::Same;
        }
        if theirs.len() == ours.len() && (numbered(theirs) || numbered(ours)) {
            return Classes::Unnamed;
        }
        let places: Option<Vec<usize>> =
            ours.iter().map(|class| theirs.iter().position(|other| other == class)).collect();
        // A name that stands twice is the name of no class.
        let distinct = |places: &Vec<usize>| places.iter().collect::<BTreeSet<_>>().len() == theirs.len();
        let Some(places) = places.filter(|p| theirs.len() == ours.len() && distinct(p)) else {
            return Classes::Different;
        };
        for (_, values) in self.named.iter_mut().filter(|(name, _)| is_of(classifier, name)) {
            let row = values.data.len() / theirs.len().max(1);
            let rows = |&place: &usize| values.data.get(place * row..(place + 1) * row).unwrap_or_default().to_vec();
            values.data = places.iter().flat_map(rows).collect();
        }
        Classes::Reordered
    }

    /// Leaves a layer out: the classifier, if its classes are others.
    pub fn drop_layer(&mut self, layer: &str) {
        self.named.retain(|name, _| !is_of(layer, name));
    }
}

impl std::fmt::Display for Fit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} of {} tensors inherited", self.inherited, self.of)?;
        if !self.missing.is_empty() {
            write!(f, ", missing: {}", listed(self.missing.iter().map(String::as_str), self.missing.len()))?;
        }
        if self.extra > 0 {
            write!(f, "; the file has {} more, which are not used", self.extra)?;
        }
        Ok(())
    }
}

/// How two lists of class names differ, in words; `whose` says whose they are.
pub fn differing_classes(whose: [&str; 2], theirs: &[String], ours: &[String]) -> String {
    let only = |who: &str, some: &[String], others: &[String]| {
        let names: Vec<&str> = some.iter().filter(|name| !others.contains(name)).map(String::as_str).collect();
        (!names.is_empty()).then(|| format!("only {who} has {}", listed(names.iter().copied(), names.len())))
    };
    let parts = [only(whose[0], theirs, ours), only(whose[1], ours, theirs)];
    let mut parts: Vec<String> = parts.into_iter().flatten().collect();
    let distinct = |names: &[String]| names.iter().collect::<BTreeSet<_>>().len() == names.len();
    for (who, names) in whose.iter().zip([theirs, ours]) {
        parts.extend((!distinct(names)).then(|| format!("{who} has a name twice")));
    }
    format!("{} has {} classes, {} {}: {}", whose[0], theirs.len(), whose[1], ours.len(), parts.join("; "))
}

/// Whether all names begin with a prefix, but those of single numbers: counters stand outside of the wrapped network.
fn wraps(named: &Named, prefix: &str) -> bool {
    let mut with_axes = named.iter().filter(|(_, values)| !values.dims.is_empty()).peekable();
    with_axes.peek().is_some() && with_axes.all(|(name, _)| name.starts_with(prefix))
}

/// Whether classes have no names but their numbers.
fn numbered(names: &[String]) -> bool {
    names.iter().enumerate().all(|(number, name)| *name == number.to_string())
}

/// Whether a tensor is a layer's.
fn is_of(layer: &str, name: &str) -> bool {
    name.rsplit_once('.').is_some_and(|(own, _)| own == layer)
}

/// The first names, and how many more there are.
fn listed<'a>(names: impl Iterator<Item = &'a str>, count: usize) -> String {
    let first: Vec<&str> = names.take(LISTED).collect();
    match count > LISTED {
        true => format!("{} and {} more", first.join(", "), count - LISTED),
        false => first.join(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::tensors::{Values, to_bytes};

    fn values(dims: &[usize], data: &[f32]) -> Values {
        Values { dims: dims.to_vec(), data: data.to_vec() }
    }

    fn names(list: &[&str]) -> Vec<String> {
        list.iter().map(|name| (*name).to_owned()).collect()
    }

    fn read_back(named: &Named) -> Weights {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("w.safetensors");
        std::fs::write(&path, to_bytes(named, BTreeMap::new()).unwrap()).unwrap();
        Weights::read(&path).unwrap()
    }

    #[test]
    fn wrappers_are_taken_off() {
        let vector = || values(&[1], &[1.0]);
        let wrapped = Named::from([
            ("module._orig_mod.a".to_owned(), vector()),
            ("module._orig_mod.b.c".to_owned(), vector()),
            ("n_averaged".to_owned(), values(&[], &[3.0])),
        ]);
        let weights = read_back(&wrapped);
        assert_eq!(weights.named.keys().collect::<Vec<_>>(), ["a", "b.c", "n_averaged"]);
        assert_eq!(weights.notes.len(), 2);
        // A network with one layer of that name is not wrapped.
        let plain = Named::from([("module.a".to_owned(), vector()), ("b".to_owned(), vector())]);
        assert_eq!(read_back(&plain).named, plain);
    }

    #[test]
    fn rows_follow_the_names_of_classes() {
        let named = Named::from([
            ("classifier.weight".to_owned(), values(&[3, 2], &[0.0, 1.0, 2.0, 3.0, 4.0, 5.0])),
            ("classifier.bias".to_owned(), values(&[3], &[7.0, 8.0, 9.0])),
            ("stem.0.weight".to_owned(), values(&[3], &[1.0, 2.0, 3.0])),
        ]);
        let mut weights = read_back(&named);
        let (abc, cab) = (names(&["a", "b", "c"]), names(&["c", "a", "b"]));
        assert_eq!(weights.align("classifier", &abc, &abc), Classes::Same);
        assert_eq!(weights.align("classifier", &abc, &names(&["0", "1", "2"])), Classes::Unnamed);
        assert_eq!(weights.align("classifier", &abc, &names(&["b", "c", "d"])), Classes::Different);
        assert_eq!(weights.align("classifier", &abc, &names(&["a", "b"])), Classes::Different);
        assert_eq!(weights.named, named);
        assert_eq!(weights.align("classifier", &abc, &cab), Classes::Reordered);
        assert_eq!(weights.named["classifier.weight"].data, [4.0, 5.0, 0.0, 1.0, 2.0, 3.0]);
        assert_eq!(weights.named["classifier.bias"].data, [9.0, 7.0, 8.0]);
        assert_eq!(weights.named["stem.0.weight"].data, [1.0, 2.0, 3.0]);
        weights.drop_layer("classifier");
        assert_eq!(weights.named.len(), 1);
        let words = differing_classes(["the model", "the data"], &abc, &names(&["b", "c", "d"]));
        assert_eq!(words, "the model has 3 classes, the data 3: only the model has a; only the data has d");
    }
}
