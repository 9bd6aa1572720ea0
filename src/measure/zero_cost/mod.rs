//! Zero-cost proxies: scores of untrained networks.
//!
//! [`Proxy`] lists them with their sources; [`passes`] builds the forward and backward passes that they share and runs
//! them for a population; [`formulas`] makes scores of what the passes leave, in `f64` on the host. All are defined so that a
//! higher score predicts a better network; none is turned round by its correlation.
//!
//! *Layers* are convolutions and linear layers that take part in the forward pass; `w` are their weights without biases.
//! Batch norms use the statistics of the batch. Losses are means over the batch.

mod conjs;
pub mod croze;
pub mod formulas;
pub mod left;
pub mod passes;
mod range;
pub mod score;
pub mod swap;

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result, unknown};

/// A zero-cost proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Proxy {
    /// Parameters of the benchmark's network.
    Params,
    /// Multiply-adds as the benchmark's tables count them.
    Flops,
    /// Convolutions and linear layers that the logits depend on.
    Layers,
    /// Sum over layers of `|dL/dw|` (Abdelfattah et al. 2021, section 3.1).
    GradNorm,
    /// Sum of `|w dL/dw|` (Lee et al. 2019, eq. 4).
    Snip,
    /// Sum of `w dL/dw`, signed (Abdelfattah et al. 2021, released code).
    Plain,
    /// Sum over layers and output channels of `1/2 mean over images of (sum over positions of y dL/dy)^2`, times the
    /// channel's weights (Turner et al. 2020, eq. 3; summed as released).
    Fisher,
    /// Sum of `-w (H g)`, `g` the gradient of the loss and `H` its Hessian, both by the weights of layers (Wang et al. 2020,
    /// eq. 8; the sign as Abdelfattah et al. 2021 released it, temperature 1).
    Grasp,
    /// Log of the sum of `|w dR/dw|`, `R` the sum of outputs for an image of ones and weights `|w|`, without batch norm
    /// (Tanaka et al. 2020, eq. 2).
    Synflow,
    /// The same with batch norm, in `f64` on the host: it is beyond `f32`.
    SynflowBn,
    /// Sum over layers of `|w|`.
    L2Norm,
    /// `-sum of log(e + k) + 1/(e + k)` over the eigenvalues `e` of the correlations between images of the gradient of the
    /// summed logits by the image, `k = 1e-5` (Mellor et al. 2020, eq. 3).
    JacobCov,
    /// The same correlations within classes: sum over classes of `|sum of log(|corr| + 1e-5)|` (Lopes et al. 2021, eq. 3 to 5).
    EpeNas,
    /// `log |det K|`, `K` the number of units on whose side of zero two images agree, over all inputs of rectifiers
    /// (Mellor et al. 2021, eq. 2).
    Naswot,
    /// As released: inputs of a block ReLU-convolution-norm count twice.
    NaswotCompat,
    /// `log` of the mean change of the last feature map under input noise of 0.01, plus the sum over batch norms of `log`
    /// of the root of the mean running variance, with weights from N(0, 1) (Lin et al. 2021, algorithm 1, as released).
    Zen,
    /// Sum over layers of `log` of the sum of `mean |g| / std g` over batches (Li et al. 2023, eq. 5).
    Zico,
    /// Consistency of parameters, gradients and features between a network and a perturbed one (Ha et al. 2023, eq. 3 to
    /// 10): a reconstruction, since the paper leaves choices open. See [`croze`].
    Croze,
    /// As released: nearly a count of parameters.
    CrozeCompat,
    /// As released, with means instead of sums, so that sizes of layers do not count.
    CrozeMean,
    /// Number of distinct patterns that rectified units show over the images, its mean over draws of weights from N(0, 1)
    /// (Peng et al. 2024, section 3). See [`swap`].
    Swap,
    /// The same after noise in front of the rectifiers, of 0.05 of their inputs' root mean square: what SNAP means to be (TRNAS,
    /// ICCV 2025).
    Snap,
    /// SNAP as released: noise that changes no sign, so that it is [`Proxy::Swap`].
    SnapReleased,
    /// Sum over layers of the likeness of weights times that of features between a network and CRoZe's perturbed copy (TRNAS,
    /// ICCV 2025, as released): at most, and at times nearly, the number of [`Proxy::Layers`].
    Conjs,
}

impl Proxy {
    /// All proxies.
    pub const ALL: [Proxy; 24] = [
        Proxy::Params,
        Proxy::Flops,
        Proxy::Layers,
        Proxy::GradNorm,
        Proxy::Snip,
        Proxy::Plain,
        Proxy::Grasp,
        Proxy::Fisher,
        Proxy::Synflow,
        Proxy::SynflowBn,
        Proxy::L2Norm,
        Proxy::JacobCov,
        Proxy::EpeNas,
        Proxy::Naswot,
        Proxy::NaswotCompat,
        Proxy::Zen,
        Proxy::Zico,
        Proxy::Croze,
        Proxy::CrozeCompat,
        Proxy::CrozeMean,
        Proxy::Swap,
        Proxy::Snap,
        Proxy::SnapReleased,
        Proxy::Conjs,
    ];
    /// Their names, in the same order.
    pub const NAMES: [&'static str; 24] = [
        "params",
        "flops",
        "layers",
        "grad_norm",
        "snip",
        "plain",
        "grasp",
        "fisher",
        "synflow",
        "synflow_bn",
        "l2_norm",
        "jacob_cov",
        "epe_nas",
        "naswot",
        "naswot_compat",
        "zen",
        "zico",
        "croze",
        "croze_compat",
        "croze_mean",
        "swap",
        "snap",
        "snap_released",
        "conjs",
    ];

    /// Its name.
    pub fn name(self) -> &'static str {
        Self::NAMES[Self::ALL.iter().position(|p| *p == self).unwrap_or(0)]
    }

    /// A comma-separated list, or `all`. Parameters and multiply-adds always come first: what a score says is what it
    /// says beyond them.
    ///
    /// # Errors
    /// A name that is none, with the nearest one.
    pub fn list(text: &str) -> Result<Vec<Proxy>> {
        let mut list = vec![Proxy::Params, Proxy::Flops];
        for name in text.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            if name == "all" {
                return Ok(Self::ALL.to_vec());
            }
            let proxy = name.parse()?;
            if !list.contains(&proxy) {
                list.push(proxy);
            }
        }
        if text.trim().is_empty() {
            return Err(Error::invalid("--proxies", "names none; all takes every one"));
        }
        Ok(list)
    }
}

impl FromStr for Proxy {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wanted = text.replace('-', "_");
        let at = Self::NAMES.iter().position(|name| *name == wanted);
        at.map(|i| Self::ALL[i]).ok_or_else(|| unknown("--proxies", text, &Self::NAMES))
    }
}

/// What stands for a score that is minus infinity or undefined: a network without a path from input to output, or one
/// whose passes overflow. It is what NASLib writes, and lower than any score.
pub const LOWEST: f64 = -1e8;
