//! The contact sheet: one picture under all corruptions, kinds down, severities across.

use image::{Rgb, RgbImage, imageops};

use super::font;
use super::job::Job;
use crate::error::Result;

/// The longer side of the pictures in a sheet: small ones are enlarged, large ones reduced.
const TILE: u32 = 128;
/// Pixels of a letter's point.
const SCALE: u32 = TILE / 64;
/// White between tiles.
const GAP: u32 = 4;

/// The sheet of image `number` with `levels` severities of each kind.
pub(super) fn draw(job: &Job, image: &RgbImage, number: usize, levels: usize) -> Result<RgbImage> {
    let side = image.width().max(image.height());
    let fit = |picture: &RgbImage| {
        let scaled = |length: u32| (u64::from(length) * u64::from(TILE) / u64::from(side)).max(1) as u32;
        let (w, h) = (scaled(picture.width()), scaled(picture.height()));
        let filter = if side <= TILE { imageops::FilterType::Nearest } else { imageops::FilterType::Triangle };
        imageops::resize(picture, w, h, filter)
    };
    let clean = fit(image);
    let rows: Vec<&str> = job.corruptions.chunks(levels.max(1)).map(|row| row[0].kind().name()).collect();
    let mut columns = vec!["clean".to_owned()];
    columns.extend(job.corruptions.iter().take(levels).map(|c| {
        let whole = format!("severity {}", c.severity());
        if font::size(&whole, SCALE).0 <= clean.width() { whole } else { c.severity().to_string() }
    }));
    let line = font::size("", SCALE).1;
    let width = |text: &str| font::size(text, SCALE).0 + GAP;
    let margin = rows.iter().map(|text| width(text)).max().unwrap_or(0) + GAP;
    let head = line + 2 * GAP;
    let widest = columns.iter().map(|text| width(text)).max().unwrap_or(0);
    let (w, h) = (clean.width().max(widest) + GAP, clean.height().max(line) + GAP);
    let (across, down) = (columns.len() as u32, rows.len() as u32);
    let mut sheet = RgbImage::from_pixel(margin + across * w, head + down * h, Rgb([255; 3]));
    for (column, text) in columns.iter().enumerate() {
        font::draw(&mut sheet, text, margin + column as u32 * w, GAP, SCALE);
    }
    for (row, text) in rows.iter().enumerate() {
        let top = head + row as u32 * h;
        font::draw(&mut sheet, text, GAP, top + clean.height().saturating_sub(line) / 2, SCALE);
        imageops::replace(&mut sheet, &clean, margin.into(), top.into());
        for level in 0..levels {
            let picture = fit(&job.one(image, number, row * levels + level)?);
            imageops::replace(&mut sheet, &picture, (margin + (level as u32 + 1) * w).into(), top.into());
        }
    }
    Ok(sheet)
}
