//! Times of image corruptions, per image: one thread, and all cores against one.

use image::RgbImage;

use super::Spread;
use super::suites::{Line, Sink};
use crate::corrupt::{Constants, Corruption, Kind, Severity, in_order};
use crate::error::{Error, Result};
use crate::philox::Stream;

/// Something like a photo: shapes of light and colour with a little noise.
fn picture(side: u32) -> RgbImage {
    let mut noise = Stream::new(1, 2, u64::from(side));
    RgbImage::from_fn(side, side, |x, y| {
        let (u, v) = (f64::from(x) / f64::from(side), f64::from(y) / f64::from(side));
        let mut channel = |shift: f64| {
            let wave = 0.5 + 0.3 * (7.0 * u + 3.0 * v + shift).sin() * (5.0 * v - shift).cos();
            let edge = if (u - 0.5).hypot(v - 0.4) < 0.2 { 0.15 } else { 0.0 };
            (255.0 * (wave + edge) + 4.0 * noise.normal()).clamp(0.0, 255.0) as u8
        };
        image::Rgb([channel(0.0), channel(0.7), channel(1.9)])
    })
}

fn line(name: String, shape: String, seconds: Vec<f64>, check: f64, ratio: Option<f64>) -> Line {
    let time = Spread::of(seconds);
    Line { suite: "corruptions", name, shape, time, device: None, check: vec![check], ratio }
}

/// Mean of all values, for comparison with other programs' outputs.
fn brightness(image: &RgbImage) -> f64 {
    let values = image.as_raw();
    values.iter().map(|&v| f64::from(v)).sum::<f64>() / values.len().max(1) as f64
}

/// All 19 kinds at both sizes of the published sets, on one thread: the mean over severities of the time per image. Then a
/// batch of images on all cores, with the speed-up over one thread as ratio; both give the same bytes.
///
/// # Errors
/// If results of one thread and many differ.
pub fn corruptions(samples: usize, sink: &mut Sink) -> Result<bool> {
    for (side, constants) in [(32, Constants::Cifar), (224, Constants::ImageNet)] {
        let image = picture(side);
        let shape = format!("{side}x{side}, constants {}, one thread", constants.name());
        let mut total = vec![0.0; samples];
        for kind in Kind::ALL {
            let all = Severity::ALL.map(|severity| Corruption::new(kind, severity, constants));
            let run = || all.iter().map(|c| Ok(brightness(&c.seeded(&image, 1, 0)?))).sum::<Result<f64>>();
            let check = run()? / 5.0;
            let start = std::time::Instant::now();
            run()?;
            // A sample lasts some milliseconds at least.
            let repetitions = (0.005 / start.elapsed().as_secs_f64().max(1e-7)).clamp(1.0, 1000.0) as usize;
            let mut times = vec![];
            for total in &mut total {
                let start = std::time::Instant::now();
                for _ in 0..repetitions {
                    for corruption in &all {
                        std::hint::black_box(corruption.seeded(&image, 1, 0)?);
                    }
                }
                let seconds = start.elapsed().as_secs_f64() / (5 * repetitions) as f64;
                *total += 5.0 * seconds;
                times.push(seconds);
            }
            if !sink(line(kind.name().into(), shape.clone(), times, check, None))? {
                return Ok(false);
            }
        }
        if !sink(line("one image, all 19 x 5".into(), shape, total, 0.0, None))? {
            return Ok(false);
        }
    }
    sink(scaling(samples)?)?;
    Ok(true)
}

/// 256 images of 64x64 under 15 corruptions on every core.
fn scaling(samples: usize) -> Result<Line> {
    let image = picture(64);
    let all: Vec<Corruption> =
        Kind::MAIN.iter().map(|&kind| Corruption::new(kind, Severity::ALL[2], Constants::Cifar)).collect();
    let run = |threads: usize| -> Result<(f64, f64)> {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
        let pool = pool.map_err(|e| Error::invalid("threads", e.to_string()))?;
        let start = std::time::Instant::now();
        let mut sum = 0.0;
        pool.install(|| {
            let job =
                |i: usize| all.iter().map(|c| Ok(brightness(&c.seeded(&image, 1, i as u64)?))).sum::<Result<f64>>();
            in_order(256, job, |_, value| {
                sum += value?;
                Ok(())
            })
        })?;
        Ok((start.elapsed().as_secs_f64(), sum))
    };
    let cores = std::thread::available_parallelism().map_or(1, |n| n.get());
    let (mut many, mut single) = (vec![], vec![]);
    let mut check = 0.0;
    for _ in 0..samples {
        let ((one, a), (all, b)) = (run(1)?, run(cores)?);
        if a != b {
            return Err(Error::invalid("corruptions", format!("one thread and {cores} threads differ: {a} and {b}")));
        }
        check = a;
        single.push(one);
        many.push(all);
    }
    let speedup = Spread::of(single).median_ms / Spread::of(many.clone()).median_ms;
    let name = format!("{cores} threads / one thread");
    Ok(line(name, "256 images of 64x64, 15 kinds".into(), many, check, Some(speedup)))
}
