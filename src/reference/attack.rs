//! Attacks in the L-infinity ball: where they start, what they have reached, how they step.
//!
//! ```text
//! P(v)     = clamp(v, max(x - eps, low), min(x + eps, high))
//! start    P(x + eps u)
//! PGD      P(v + step sign(g))
//! APGD     z = P(v + scale step sign(h)),  P(v + a (z - v) + (1 - a)(v - before))
//! ```

use super::philox::philox;
use super::{Context, View};
use crate::error::Result;
use crate::graph::{ATTACK_PURPOSE, TensorId, attack, blocks};

/// An attack's numbers, per channel and for all.
pub(super) struct Settings<'a> {
    values: &'a [f64],
    stride: usize,
}

impl<'a> Settings<'a> {
    pub fn of(cx: &Context<'a>, tensor: TensorId) -> Self {
        Settings { values: cx.memory.get(tensor), stride: cx.graph.shape(tensor).channels() }
    }

    fn at(&self, row: usize, column: usize) -> f64 {
        self.values.get(row * self.stride + column).copied().unwrap_or(0.0)
    }

    /// The nearest point of the ball and of the range of pixels.
    fn project(&self, x: f64, channel: usize, v: f64) -> f64 {
        let eps = self.at(attack::EPS, channel);
        v.max((x - eps).max(self.at(attack::LOW, channel))).min((x + eps).min(self.at(attack::HIGH, channel)))
    }
}

/// Channel of a value and its `vec4`, whose numbers count padded channels too.
fn place(index: usize, channels: usize) -> (usize, usize) {
    let channel = index % channels;
    (channel, index / channels * blocks(channels) + channel / 4)
}

/// The start, and fresh records.
pub(super) fn start(x: View<'_>, settings: &Settings<'_>) -> (Vec<f64>, Vec<f64>) {
    let word = |i| settings.at(attack::WORDS, i) as u32;
    let channels = x.axes[3];
    let point = |(i, &x): (usize, &f64)| {
        let (channel, vec4) = place(i, channels);
        let words = philox([vec4 as u32, channels as u32, word(2), ATTACK_PURPOSE], [word(0), word(1)]);
        let u = 2.0 * f64::from(words[channel % 4] >> 8) / f64::from(1 << 24) - 1.0;
        let u = if word(3) == 1 { u } else { 0.0 };
        settings.project(x, channel, x + settings.at(attack::EPS, channel) * u)
    };
    let record = [-1.0, 1.0, 0.0, 0.0, 1.0, 1.0, 0.0, 0.0];
    (x.values.iter().enumerate().map(point).collect(), record.repeat(x.axes[0]))
}

/// The records after a look at the losses.
pub(super) fn judge(loss: View<'_>, settings: &Settings<'_>, state: &[f64]) -> Vec<f64> {
    let (window, first) = (settings.at(attack::CONTROL, 1), settings.at(attack::CONTROL, 2) != 0.0);
    let one = |(s, seen): (&[f64], &[f64])| {
        let better = first || seen[0] > s[0];
        let worst = if s[0].is_nan() || seen[0].is_nan() {
            f64::NAN
        } else if better {
            seen[0]
        } else {
            s[0]
        };
        let rises = s[3] + f64::from(!first && seen[0] > s[2]);
        let mark = if first { worst } else { s[6] };
        let check = window > 0.0;
        let back = check && (rises <= 0.75 * window || (s[5] == 0.0 && mark >= worst));
        let number = |yes: bool| f64::from(u8::from(yes));
        [
            worst,
            s[1].min(seen[1]),
            seen[0],
            if check { 0.0 } else { rises },
            if back { 0.5 * s[4] } else { s[4] },
            if check { number(back) } else { s[5] },
            if check { worst } else { mark },
            number(better) + 2.0 * number(back),
        ]
    };
    state.chunks_exact(8).zip(loss.values.chunks_exact(2)).flat_map(one).collect()
}

/// The point after a step, and with `memory` what is remembered.
pub(super) fn step(
    x: View<'_>,
    adv: View<'_>,
    g: View<'_>,
    settings: &Settings<'_>,
    apgd: Option<(&[f64], &[f64])>,
) -> Result<(Vec<f64>, Vec<f64>)> {
    super::agree("attacked image", x.axes, adv.axes)?;
    super::agree("gradient of an image", x.axes, g.axes)?;
    let sign = |v: f64| if v == 0.0 { 0.0 } else { v.signum() };
    let (count, channels) = (x.values.len(), x.axes[3]);
    let mut points = vec![];
    let mut memory = apgd.map_or(vec![], |(_, memory)| memory.to_vec());
    for i in 0..count {
        let (channel, _) = place(i, channels);
        let (x, here, g) = (x.values[i], adv.values[i], g.values[i]);
        let length = settings.at(attack::STEP, channel);
        let project = |v| settings.project(x, channel, v);
        let Some((state, _)) = apgd else {
            points.push(project(here + length * sign(g)));
            continue;
        };
        let record = &state[i / (count / adv.axes[0]) * 8..];
        let (better, back) = (record[7] as u32 & 1 != 0, record[7] as u32 & 2 != 0);
        if better {
            (memory[i], memory[count + i]) = (here, g);
        }
        let (v, h) = if back { (memory[i], memory[count + i]) } else { (here, g) };
        let before = if settings.at(attack::CONTROL, 2) != 0.0 { v } else { memory[2 * count + i] };
        let a = settings.at(attack::CONTROL, 0);
        let z = project(v + record[4] * length * sign(h));
        points.push(project(v + a * (z - v) + (1.0 - a) * (v - before)));
        memory[2 * count + i] = v;
    }
    Ok((points, memory))
}
