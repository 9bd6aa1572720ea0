//! The kept network under each corruption, and images that it mistakes.

use maud::{Markup, PreEscaped, html};

use crate::corrupt::{Kind, Severity};
use crate::measure::judged::Judged;
use crate::measure::mistakes::Mistake;
use crate::report::heat_map::heat_map;
use crate::report::svg::Place;

/// Errors by kind and severity as a map.
pub(super) fn map(kept: &Judged) -> Option<Markup> {
    if kept.by_corruption.is_empty() {
        return None;
    }
    let columns: Vec<String> = Severity::ALL.iter().map(|severity| format!("severity {}", severity.get())).collect();
    let known = |kind: &Kind| Some((kind.to_string(), kept.by_corruption.get(&kind.to_string())?));
    let rows: Vec<(String, Vec<Option<f64>>)> = Kind::MAIN
        .iter()
        .filter_map(known)
        .map(|(name, errors)| (name, errors.iter().map(|error| Some((100.0 - error) / 100.0)).collect()))
        .collect();
    let best = (100.0 - kept.uncorrupted_error.mean) / 100.0;
    let title = "accuracy under each corruption, percent";
    let picture = heat_map(title, &columns, &rows, [0.0, best.max(1e-3)], Place::Page);
    Some(html! {
        figure {
            (PreEscaped(picture))
            figcaption {
                "Percent of " (kept.judged_images) " test images that are right, from dark (0) to light ("
                (format!("{:.1}", 100.0 * best)) ", what is right without corruption)."
            }
        }
    })
}

/// Mistakes as pairs of pictures out of the run's sheet, which is in the page once; `size` is that of an image.
pub(super) fn mistakes(mistakes: &[Mistake], sheet: &[u8], [width, height]: [u32; 2]) -> Markup {
    let data = format!("data:image/png;base64,{}", base64(sheet));
    let (whole_width, whole_height) = (width * mistakes.len() as u32, 2 * height);
    let view = |place: usize, row: u32| format!("{} {} {width} {height}", width * place as u32, height * row);
    html! {
        p {
            "For each kind of corruption that misleads it at severity " (mistakes.first().map_or(0, |mistake| mistake.severity))
            ": of the images that the network gets right as they are (of all, if it gets none right), the one (above) that it is most sure of \
             wrongly when it is corrupted (below)."
        }
        svg width="0" height="0" style="position:absolute" {
            defs {
                image id="mistakes" href=(data) width=(whole_width) height=(whole_height) {}
            }
        }
        div.mistakes {
            @for (place, mistake) in mistakes.iter().enumerate() {
                figure {
                    @for row in 0..2 { svg viewBox=(view(place, row)) role="img" { use href="#mistakes" {} } }
                    figcaption {
                        b { (mistake.kind) } br;
                        (mistake.label) " seen as " (mistake.answer) ", " (format!("{:.0} %", 100.0 * mistake.probability))
                        " sure, test image " (mistake.image)
                    }
                }
            }
        }
    }
}

/// RFC 4648, section 4.
fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let letter = |bits: u32| char::from(LETTERS[(bits & 63) as usize]);
    let group = |part: &[u8]| {
        let at = |place: usize| u32::from(part.get(place).copied().unwrap_or(0));
        let bits = at(0) << 16 | at(1) << 8 | at(2);
        let all = [letter(bits >> 18), letter(bits >> 12), letter(bits >> 6), letter(bits)];
        let filled = |(place, letter): (usize, char)| if place <= part.len() { letter } else { '=' };
        all.into_iter().enumerate().map(filled).collect::<String>()
    };
    bytes.chunks(3).map(group).collect()
}

#[cfg(test)]
mod tests {
    use super::base64;

    #[test]
    fn letters_are_those_of_the_standard() {
        // RFC 4648, section 10.
        for (text, want) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg=="), ("foobar", "Zm9vYmFy")]
        {
            assert_eq!(base64(text.as_bytes()), want);
        }
        assert_eq!(base64(&[0xfb, 0xff, 0xfe]), "+//+");
    }
}
