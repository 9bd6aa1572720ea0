//! Data sets that their publishers give away: where the files are, how long, and their checksums.
//!
//! Nothing here was reckoned by this project: each figure was read at the page that stands beside it, and one that no page gives
//! is left out. Checksums are MD5, because those are published; they tell whether a file is the one that was meant, whoever
//! served it.

/// A data set, or a set of corrupted images.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Published {
    /// Its name for `data download`.
    pub name: &'static str,
    /// The name of its layout among [`known`](super::known); none for corrupted images, which go with a set.
    pub layout: Option<&'static str>,
    /// Its publisher's page.
    pub page: &'static str,
    /// Its files: one archive, or several that lie in a folder of their own.
    pub files: &'static [PublishedFile],
    /// The folder inside the archive that has to be unpacked.
    pub unpacked: Option<&'static str>,
    /// Where the checksums were read.
    pub checksums_from: &'static str,
    /// Where the sizes were read.
    pub sizes_from: &'static str,
}

/// A file of a [`Published`] set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PublishedFile {
    /// Its name.
    pub name: &'static str,
    /// Its address.
    pub address: &'static str,
    /// Its length in bytes.
    pub bytes: Option<u64>,
    /// Its MD5, 32 small hexadecimal digits.
    pub md5: Option<&'static str>,
}

const fn file(name: &'static str, address: &'static str, bytes: u64, md5: &'static str) -> PublishedFile {
    PublishedFile { name, address, bytes: Some(bytes), md5: Some(md5) }
}

const CIFAR_10: [PublishedFile; 1] = [file(
    "cifar-10-binary.tar.gz",
    "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
    170_052_171,
    "c32a1d4ab5d03f1284b67883e8d87530",
)];

const CIFAR_100: [PublishedFile; 1] = [file(
    "cifar-100-binary.tar.gz",
    "https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz",
    168_513_733,
    "03b5dce01913d631647c71ecec9e9cb8",
)];

const MNIST: [PublishedFile; 4] = [
    file(
        "train-images-idx3-ubyte.gz",
        "https://ossci-datasets.s3.amazonaws.com/mnist/train-images-idx3-ubyte.gz",
        9_912_422,
        "f68b3c2dcbeaaa9fbdd348bbdeb94873",
    ),
    file(
        "train-labels-idx1-ubyte.gz",
        "https://ossci-datasets.s3.amazonaws.com/mnist/train-labels-idx1-ubyte.gz",
        28_881,
        "d53e105ee54ea40749a09fcbcd1e9432",
    ),
    file(
        "t10k-images-idx3-ubyte.gz",
        "https://ossci-datasets.s3.amazonaws.com/mnist/t10k-images-idx3-ubyte.gz",
        1_648_877,
        "9fb629c4189551a2d022fa330f9573f3",
    ),
    file(
        "t10k-labels-idx1-ubyte.gz",
        "https://ossci-datasets.s3.amazonaws.com/mnist/t10k-labels-idx1-ubyte.gz",
        4_542,
        "ec29112dd5afa0611ce80d1b7f02629c",
    ),
];

const FASHION_MNIST: [PublishedFile; 4] = [
    file(
        "train-images-idx3-ubyte.gz",
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/train-images-idx3-ubyte.gz",
        26_421_880,
        "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
    ),
    file(
        "train-labels-idx1-ubyte.gz",
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/train-labels-idx1-ubyte.gz",
        29_515,
        "25c81989df183df01b3e8a0aad5dffbe",
    ),
    file(
        "t10k-images-idx3-ubyte.gz",
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/t10k-images-idx3-ubyte.gz",
        4_422_102,
        "bef4ecab320f06d8554ea6380940ec79",
    ),
    file(
        "t10k-labels-idx1-ubyte.gz",
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/t10k-labels-idx1-ubyte.gz",
        5_148,
        "bb300cfdad3c16e7a12a480ee83cd310",
    ),
];

const CIFAR_10_C: [PublishedFile; 1] = [file(
    "CIFAR-10-C.tar",
    "https://zenodo.org/records/2535967/files/CIFAR-10-C.tar",
    2_918_471_680,
    "56bf5dcef84df0e2308c6dcbcbbd8499",
)];

const CIFAR_100_C: [PublishedFile; 1] = [file(
    "CIFAR-100-C.tar",
    "https://zenodo.org/records/3555552/files/CIFAR-100-C.tar",
    2_918_473_216,
    "11f0ed0f1191edbf9fa23466ae6021d3",
)];

const PUBLISHED: [Published; 6] = [
    Published {
        name: "cifar10",
        layout: Some("cifar-10"),
        page: "https://www.cs.toronto.edu/~kriz/cifar.html",
        files: &CIFAR_10,
        unpacked: None,
        checksums_from: "https://www.cs.toronto.edu/~kriz/cifar.html",
        sizes_from: "https://github.com/tensorflow/datasets, tensorflow_datasets/url_checksums/cifar10.txt",
    },
    Published {
        name: "cifar100",
        layout: Some("cifar-100"),
        page: "https://www.cs.toronto.edu/~kriz/cifar.html",
        files: &CIFAR_100,
        unpacked: None,
        checksums_from: "https://github.com/datasets-mila/datasets--cifar100, md5sums",
        sizes_from: "https://github.com/tensorflow/datasets, tensorflow_datasets/url_checksums/cifar100.txt",
    },
    Published {
        name: "mnist",
        layout: Some("mnist"),
        page: "http://yann.lecun.com/exdb/mnist/",
        files: &MNIST,
        unpacked: None,
        checksums_from: "https://github.com/pytorch/vision, torchvision/datasets/mnist.py",
        sizes_from: "https://github.com/tensorflow/datasets, tensorflow_datasets/url_checksums/mnist.txt",
    },
    Published {
        name: "fashion-mnist",
        layout: Some("fashion-mnist"),
        page: "https://github.com/zalandoresearch/fashion-mnist",
        files: &FASHION_MNIST,
        unpacked: None,
        checksums_from: "https://github.com/zalandoresearch/fashion-mnist, README.md",
        sizes_from: "https://github.com/tensorflow/datasets, tensorflow_datasets/url_checksums/fashion_mnist.txt",
    },
    Published {
        name: "cifar10-c",
        layout: None,
        page: "https://zenodo.org/records/2535967",
        files: &CIFAR_10_C,
        unpacked: Some("CIFAR-10-C"),
        checksums_from: "https://github.com/ENSTA-U2IS-AI/torch-uncertainty, \
                         torch_uncertainty/datasets/classification/cifar/cifar_c.py",
        sizes_from: "https://github.com/tensorflow/datasets, tensorflow_datasets/url_checksums/cifar10_corrupted.txt",
    },
    Published {
        name: "cifar100-c",
        layout: None,
        page: "https://zenodo.org/records/3555552",
        files: &CIFAR_100_C,
        unpacked: Some("CIFAR-100-C"),
        checksums_from: "https://github.com/ENSTA-U2IS-AI/torch-uncertainty, \
                         torch_uncertainty/datasets/classification/cifar/cifar_c.py",
        sizes_from: "https://github.com/nguyetbinh/NB-Ramen, src/runtime/artifact_provenance.py",
    },
];

/// The sets that `data download` fetches.
pub fn published() -> &'static [Published] {
    &PUBLISHED
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::known;

    #[test]
    fn the_table_is_sound() {
        let mut names: Vec<&str> = PUBLISHED.iter().map(|set| set.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), PUBLISHED.len());
        for set in published() {
            assert!(!set.files.is_empty() && set.page.starts_with("http"), "{}", set.name);
            assert!(set.checksums_from.starts_with("http") && set.sizes_from.starts_with("http"), "{}", set.name);
            assert!(set.unpacked.is_none() || set.files.len() == 1, "{}", set.name);
            let layout = |name| known().iter().any(|known| known.name == name && known.download == Some(set.name));
            assert!(set.layout.is_none_or(layout), "{}", set.name);
            for file in set.files {
                assert!(file.address.ends_with(&format!("/{}", file.name)), "{}", file.address);
                assert!(file.name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b)), "{}", file.name);
                let digits = |md5: &str| md5.len() == 32 && md5.bytes().all(|b| b"0123456789abcdef".contains(&b));
                assert!(file.md5.is_none_or(digits) && file.bytes != Some(0), "{}", file.name);
            }
        }
    }
}
