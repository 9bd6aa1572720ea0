use super::*;

#[test]
fn drop_path_rises_with_the_epochs() {
    let recipe = Recipe { drop_path: 0.2, ..Recipe::usual(Optimizer::Sgd, 600, 32) };
    recipe.validate(1_000).unwrap();
    for (step, probability) in [(0, 0.0), (9, 0.0), (10, 0.2 / 600.0), (3_000, 0.1), (5_999, 0.2 * 599.0 / 600.0)] {
        let rates = recipe.rates(step, 10);
        assert!((rates.drop_path - probability).abs() < 1e-15, "step {step}: {}", rates.drop_path);
    }
    for drop_path in [1.0, 1.5, -0.1, f64::NAN] {
        let refused = Recipe { drop_path, ..recipe.clone() }.validate(1_000).unwrap_err().to_string();
        assert!(refused.contains("--drop-path") && refused.contains("less than 1"), "{refused}");
    }
}

#[test]
fn recipes_without_drop_path_are_written_as_before() {
    let recipe = Recipe::usual(Optimizer::Sam, 3, 8);
    let text = toml::to_string(&recipe).unwrap();
    assert!(!text.contains("drop_path") && !text.contains("cutout"), "{text}");
    assert_eq!(toml::from_str::<Recipe>(&text).unwrap(), recipe);
    let dropping = Recipe { drop_path: 0.2, ..recipe };
    assert_eq!(toml::from_str::<Recipe>(&toml::to_string(&dropping).unwrap()).unwrap(), dropping);
}

#[test]
fn steps_have_as_many_paths_as_can_be() {
    let recipe = |paths: usize| Recipe { paths, ..Recipe::usual(Optimizer::Sgd, 3, 8) };
    for paths in [1, 2, 64] {
        recipe(paths).validate(1_000).unwrap();
        let text = toml::to_string(&recipe(paths)).unwrap();
        assert_eq!(text.contains("paths"), paths != 1, "{text}");
        assert_eq!(toml::from_str::<Recipe>(&text).unwrap(), recipe(paths));
    }
    for paths in [0, 65] {
        let refused = recipe(paths).validate(1_000).unwrap_err().to_string();
        assert!(refused.contains("--paths") && refused.contains("1 to 64"), "{refused}");
    }
    let alone = Recipe { sandwich: true, ..recipe(1) }.validate(1_000).unwrap_err().to_string();
    assert!(alone.contains("--sandwich") && alone.contains("--paths 2"), "{alone}");
    Recipe { sandwich: true, ..recipe(2) }.validate(1_000).unwrap();
    let adversarial = Some("pgd:0.1:3".parse().unwrap());
    let refused = Recipe { adversarial, ..recipe(2) }.validate(1_000).unwrap_err().to_string();
    assert!(refused.contains("--paths") && refused.contains("attack"), "{refused}");
}
