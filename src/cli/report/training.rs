//! The page of one network that was trained by itself.

use maud::{Markup, PreEscaped, html};

use super::super::told::Told;
use super::super::train::{TrainConfig, TrainResult};
use super::page::{Section, card, command, figure, page};
use super::{candidates, corruption, faults, landscape, plots, settings};
use crate::error::Result;
use crate::measure::judged::Judged;
use crate::nn::space::Registry;
use crate::report::diagram::Sheet;
use crate::report::svg::short;

pub(super) fn of(
    registry: &Registry,
    told: &Told,
    config: &TrainConfig,
    result: Option<&TrainResult>,
) -> Result<String> {
    let family = registry.open(&config.space, config.build.clone())?;
    let mut sheet = Sheet::default();
    let mut sections = vec![];
    let mut add = |id, title, body| sections.push(Section { id, title, body });
    let drawn = candidates::drawn(&family, &config.arch, &mut sheet).unwrap_or_default();
    let key = candidates::key(&sheet);
    add("network", "The network", html! { p { code.arch { (config.arch) } } (drawn) (key) });
    if let Some(result) = result {
        add("tested", "On test images", cards(result));
        if let Some(judged) = &result.judged {
            if !judged.curve.is_empty() || judged.under_noise.len() > 1 {
                add("training", "Training", curves(judged));
            }
            add("corrupted", "Under corruption", corruption(told, judged, &result.mistakes));
        }
    }
    if let Some(around) = landscape(told) {
        add("landscape", "The loss around it", around);
    }
    let own = super::super::run::quoted(&told.folder.join("config.toml"));
    let program = super::program();
    add("again", "Do it again", html! { (command(&format!("{program} train --config {own} --out again"))) });
    add("settings", "Settings, data and machine", settings(told));
    let title = format!("a network of {} on {}", config.space, config.data);
    let head = html! {
        (PreEscaped(sheet.definitions()))
        h1 { (title) }
        p.soft { "Seed " (config.seed) "." }
        (faults(told))
        @if result.is_none() { p.fault { "This training has not ended, or its result cannot be read." } }
    };
    Ok(page(&title, &head, &sections))
}

fn cards(result: &TrainResult) -> Markup {
    let trained = &result.trained;
    let right = |share: f64| format!("{:.1} %", 100.0 * share);
    html! {
        div.cards {
            (card(&right(trained.clean_accuracy), &format!("of {} test images right", trained.test_images)))
            @if let Some(share) = trained.corruption_accuracy {
                (card(&right(share), &format!("right under 15 corruptions, {} images", trained.corruption_images)))
            }
            (card(&short(result.params as f64), "trainable parameters"))
            (card(&short(result.macs as f64), "multiply-adds for one image"))
        }
        @for suspicion in &trained.suspicions { p.fault { (suspicion) } }
    }
}

fn curves(judged: &Judged) -> Markup {
    let named = [("trained".to_owned(), judged)];
    let curve = [("trained".to_owned(), &judged.curve[..])];
    html! {
        div.figures {
            @if !judged.curve.is_empty() { (figure(&plots::training(&curve), "Training loss.")) }
            @if judged.under_noise.len() > 1 {
                (figure(&plots::noise(&named), "Loss on test images when all weights are disturbed."))
            }
        }
    }
}
