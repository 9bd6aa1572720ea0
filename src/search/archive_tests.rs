use proptest::prelude::*;

use super::*;

fn entry(arch: &str, fitness: f64) -> Entry {
    let (arch, arm, measures) = (arch.into(), String::new(), BTreeMap::new());
    Entry { arch, generation: 0, arm, given: false, fitness, params: 1, macs: 2, measures }
}

#[test]
fn special_numbers_survive_json() {
    let mut all =
        vec![entry("a", f64::NAN), entry("b", f64::INFINITY), entry("c", f64::NEG_INFINITY), entry("d", -0.0)];
    all[3].measures = BTreeMap::from([("fbs".into(), 4.347_826_068_052_9e-4), ("loss".into(), f64::NAN)]);
    let text = serde_json::to_string(&all).unwrap();
    let back: Vec<Entry> = serde_json::from_str(&text).unwrap();
    assert_eq!(serde_json::to_string(&back).unwrap(), text);
    assert!(back[0].fitness.is_nan() && back[3].fitness.is_sign_negative());
    assert!(back[3].measure("loss").is_nan() && back[3].measure("fbs") > 0.0);
    assert!(serde_json::from_str::<Vec<Entry>>(&text.replace("-inf", "lots")).is_err());
}

#[test]
fn lines_of_earlier_versions_are_read() {
    let read = |arm: &str| -> Entry {
        serde_json::from_str(&format!(r#"{{"arch":"a",{arm}"fitness":1,"params":1,"macs":1}}"#)).unwrap()
    };
    assert_eq!([read("").arm, read("\"baseline\":true,").arm, read("\"arm\":\"x\",").arm], ["", "baseline", "x"]);
}

proptest! {
    #[test]
    fn json_keeps_every_bit(fitness in any::<f64>()) {
        let back: Entry = serde_json::from_str(&serde_json::to_string(&entry("a", fitness)).unwrap()).unwrap();
        let got = back.fitness;
        prop_assert!(got.to_bits() == fitness.to_bits() || (got.is_nan() && fitness.is_nan()),
            "{} became {}: is serde_json's feature float_roundtrip on?", fitness, got);
    }
}
