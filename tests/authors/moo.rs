//! Multi-objective selection and surrogates against values computed with pymoo, SciPy and pySOT.
//!
//! The repository's cases are what `peers/moo.py` wrote; with `ALTIPLANO_REFERENCE` set, `$ALTIPLANO_REFERENCE/moo` is tested too.

use std::path::PathBuf;

use altiplano::report::statistics::{kendall, pearson, spearman};
use altiplano::search::front::hypervolume::hypervolume;
use altiplano::search::front::pareto::{Point, crowding, front_of_rows, fronts, merits, ranks};
use altiplano::search::front::trade_off::{Pick, high_trade_off, trade_offs};
use altiplano::search::surrogate::Surrogate;
use altiplano::search::surrogate::rbf::Rbf;
use serde_json::Value;

use crate::common;

const TOLERANCE: f64 = 1e-6;

/// Inputs and outputs of all cases.
fn cases() -> Vec<(Value, Value)> {
    let mut folders = common::golden_cases("moo");
    assert!(!folders.is_empty(), "the repository's cases are gone");
    folders.extend(std::env::var_os("ALTIPLANO_REFERENCE").map(|root| PathBuf::from(root).join("moo")));
    let read = |path: PathBuf| serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    folders.into_iter().map(|folder| (read(folder.join("inputs.json")), read(folder.join("outputs.json")))).collect()
}

/// A number; the infinite one stands as a string.
fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| value.as_str().unwrap().parse().unwrap())
}

fn row(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(number).collect()
}

fn table(value: &Value) -> Vec<Vec<f64>> {
    value.as_array().unwrap().iter().map(row).collect()
}

fn places(value: &Value) -> Vec<usize> {
    value.as_array().unwrap().iter().map(|v| v.as_u64().unwrap() as usize).collect()
}

#[track_caller]
fn close(what: &str, got: &[f64], want: &[f64]) {
    assert_eq!(got.len(), want.len(), "{what}");
    for (place, (got, want)) in got.iter().zip(want).enumerate() {
        let near = got == want || (got - want).abs() <= TOLERANCE * want.abs().max(1.0);
        assert!(near, "{what} {place}: {got} instead of {want}");
    }
}

#[test]
fn fronts_and_crowding() {
    for (inputs, outputs) in cases() {
        let rows = table(&inputs["nds_points"]);
        let points: Vec<Point> = rows.iter().map(|row| Point::feasible(row.as_slice())).collect();
        assert_eq!(ranks(&points), places(&outputs["nds_rank"]));
        let wanted: Vec<Vec<usize>> = outputs["nds_fronts"].as_array().unwrap().iter().map(places).collect();
        assert_eq!(fronts(&points), wanted);
        assert_eq!(front_of_rows(&rows), wanted[0]);
        let wanted = row(&outputs["crowding"]);
        for front in fronts(&points) {
            let rows: Vec<&[f64]> = front.iter().map(|i| rows[*i].as_slice()).collect();
            close("crowding", &crowding(&rows), &front.iter().map(|i| wanted[*i]).collect::<Vec<_>>());
        }
        close("merits", &merits(&points).iter().map(|merit| merit.crowding).collect::<Vec<_>>(), &wanted);
    }
}

#[test]
fn hypervolumes() {
    for (inputs, outputs) in cases() {
        let cases = inputs["hv"].as_array().unwrap().iter();
        let got: Vec<f64> =
            cases.map(|case| hypervolume(&table(&case["points"]), &row(&case["ref"])).unwrap()).collect();
        close("hypervolume", &got, &row(&outputs["hv"]));
    }
}

#[test]
fn trade_off_picks() {
    for (inputs, outputs) in cases() {
        for (name, want) in outputs["high_tradeoff"].as_object().unwrap() {
            let rows = table(&inputs[name]);
            let front = front_of_rows(&rows);
            assert_eq!(front, places(&want["non_dominated_indices"]));
            let kept: Vec<&[f64]> = front.iter().map(|i| rows[*i].as_slice()).collect();
            for (normalise, word) in [(true, "True"), (false, "False")] {
                let of = |what: &str| &want[format!("{what},zero_to_one={word}")];
                let mu: Vec<f64> = front.iter().map(|i| number(&of("mu_by_original_index")[i.to_string()])).collect();
                close(&format!("{name} {word}"), &trade_offs(&kept, normalise), &mu);
                assert_eq!(high_trade_off(&rows, Pick::Outliers, normalise), places(of("pymoo")), "{name} {word}");
                for n in [3, 5] {
                    let picks = high_trade_off(&rows, Pick::Largest(n), normalise);
                    assert_eq!(picks, places(of(&format!("cnas,n_survive={n}"))), "{name} {word} {n}");
                }
            }
        }
    }
}

#[test]
fn radial_basis_functions() {
    for (inputs, outputs) in cases() {
        let fitted = Rbf::fit(&table(&inputs["rbf_train_x"]), &row(&inputs["rbf_train_y"])).unwrap();
        let got = fitted.predict(&table(&inputs["rbf_test_x"]));
        let wanted = &outputs["rbf"];
        for (name, values) in wanted.as_object().unwrap().iter().filter(|(name, _)| !name.starts_with("tail")) {
            close(name, &got, &row(values));
        }
        close("tail", fitted.tail(), &row(&wanted["tail_coeffs[1,x0..]"]));
    }
}

#[test]
fn rank_correlations() {
    for (inputs, outputs) in cases() {
        let pairs = inputs["rank_pairs"].as_array().unwrap().iter().map(table);
        for (pair, want) in pairs.zip(outputs["rank"].as_array().unwrap()) {
            let (x, y) = (&pair[0], &pair[1]);
            let got = [kendall(x, y), spearman(x, y), pearson(x, y)].map(|found| found.unwrap().value.unwrap());
            close("correlation", &got, &["kendalltau", "spearman", "pearson"].map(|name| number(&want[name])));
        }
    }
}
