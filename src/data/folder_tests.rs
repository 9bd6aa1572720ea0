//! Tests of the reader of image folders.

use super::*;
use crate::data::{Assumed, Handling, load as load_any, load_with};
use image::{GrayImage, Luma, Rgb, RgbImage};
use proptest::prelude::*;

/// No picture is left out.
const STRICT: Handling = Handling { strict: true, memory: None, assumed: Assumed { sides: false, share: false } };

fn grey(path: &Path, width: u32, height: u32, value: u8) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    GrayImage::from_pixel(width, height, Luma([value])).save(path).unwrap();
}

fn message(dir: &tempfile::TempDir) -> String {
    load_any(dir.path().to_str().unwrap()).unwrap_err().to_string()
}

/// What a strict reader says.
fn strict(dir: &tempfile::TempDir) -> String {
    let reading = Reading { handling: STRICT, ..Reading::default() };
    load_with(dir.path().to_str().unwrap(), &reading).unwrap_err().to_string()
}

#[test]
fn without_a_test_folder_a_fifth_is_held_out() {
    let dir = tempfile::tempdir().unwrap();
    for class in ["b", "a"] {
        for i in 0..10u8 {
            grey(&dir.path().join(format!("train/{class}/{i}.png")), 3, 2, i + 10 * (class == "b") as u8);
        }
    }
    std::fs::write(dir.path().join("train/a/notes.txt"), "x").unwrap();
    let set = load_any(dir.path().to_str().unwrap()).unwrap();
    assert_eq!((set.train.height, set.train.width, set.train.channels), (2, 3, 1));
    assert_eq!(set.train.class_names, ["a", "b"]);
    assert_eq!((set.train.per_class(), set.test.len()), (vec![8, 8], 4));
    assert!(set.notes.len() == 1 && set.notes[0].contains("held out") && set.left_out == 0, "{:?}", set.notes);
    assert_eq!(set.files.len(), 20);
    assert!(set.files.is_sorted() && set.files[0].ends_with("train/a/0.png"));
    for i in 0..16 {
        assert_eq!(set.train.labels[i] == 1, set.train.at_hand(i).unwrap()[0] >= 10);
    }
    let again = load_any(dir.path().to_str().unwrap()).unwrap();
    assert_eq!(again.train, set.train);
}

#[test]
fn one_coloured_image_makes_all_rgb() {
    let dir = tempfile::tempdir().unwrap();
    grey(&dir.path().join("train/a/1.png"), 2, 2, 7);
    grey(&dir.path().join("train/b/1.jpg"), 2, 2, 128);
    grey(&dir.path().join("val/a/1.png"), 2, 2, 9);
    std::fs::create_dir_all(dir.path().join("val/b")).unwrap();
    RgbImage::from_pixel(2, 2, Rgb([1, 2, 3])).save(dir.path().join("val/b/1.png")).unwrap();
    let set = load_any(dir.path().to_str().unwrap()).unwrap();
    assert_eq!(set.train.at_hand(0).unwrap()[..3], [7, 7, 7]);
    assert_eq!(set.test.reveal_for_final_evaluation().at_hand(1).unwrap()[..3], [1, 2, 3]);
    assert_eq!(set.notes, ["test part: val/, as there is no test/"]);
    std::fs::remove_dir_all(dir.path().join("val/b")).unwrap();
    assert!(message(&dir).contains("class folder `b` is missing in val/"));
}

#[test]
fn odd_files_are_named() {
    let dir = tempfile::tempdir().unwrap();
    grey(&dir.path().join("train/a/1.png"), 2, 2, 7);
    grey(&dir.path().join("train/b/1.png"), 4, 3, 7);
    let error = message(&dir);
    let sizes = "pictures of 2 sizes: 2x2 (1, first train/a/1.png), 4x3 (1, first train/b/1.png); ";
    assert!(error.contains(sizes) && error.contains("--crop SIDE"), "{error}");
    std::fs::write(dir.path().join("train/b/1.png"), "text").unwrap();
    let error = message(&dir);
    assert!(
        error.contains("of the class `b` can be read; train/b/1.png: at byte 0: the contents are no picture"),
        "{error}"
    );
    std::fs::remove_file(dir.path().join("train/b/1.png")).unwrap();
    assert!(message(&dir).contains("no picture in this class folder"));
    // A header that claims 2^30 x 2^30 pixels.
    let mut bytes = std::fs::read(dir.path().join("train/a/1.png")).unwrap();
    bytes[16..24].copy_from_slice(&[0x40, 0, 0, 0, 0x40, 0, 0, 0]);
    std::fs::write(dir.path().join("train/b/1.png"), bytes).unwrap();
    assert!(message(&dir).contains("b/1.png"));
}

#[test]
fn pictures_that_cannot_be_read_are_listed() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    for i in 0..5 {
        grey(&at(&format!("train/a/{i}.png")), 9, 7, 10 + i);
        grey(&at(&format!("train/b/{i}.jpg")), 9, 7, 110 + i);
        grey(&at(&format!("test/a/{i}.bmp")), 9, 7, 50 + i);
        grey(&at(&format!("test/b/{i}.tiff")), 9, 7, 150 + i);
    }
    let whole = load_any(dir.path().to_str().unwrap()).unwrap();
    assert_eq!((whole.train.len(), whole.test.len(), whole.left_out), (10, 10, 0));
    // Cut within the pixels, where the head says nothing of it; empty; something else.
    let cut = |name: &str, keep: usize| {
        let bytes = std::fs::read(at(name)).unwrap();
        std::fs::write(at(name), &bytes[..bytes.len() * keep / 100]).unwrap();
    };
    cut("train/a/0.png", 70);
    cut("train/a/3.png", 70);
    cut("train/b/1.jpg", 90);
    cut("test/a/2.bmp", 90);
    cut("test/b/4.tiff", 60);
    std::fs::write(at("train/a/9.webp"), "").unwrap();
    std::fs::write(at("test/b/8.png"), "GIF89a").unwrap();
    let set = load_any(dir.path().to_str().unwrap()).unwrap();
    assert_eq!((set.train.per_class(), set.test.len(), set.left_out), (vec![3, 4], 8, 7));
    // What is read lies together, in its order.
    let first: Vec<u8> = (0..3).map(|i| set.train.at_hand(i).unwrap()[0]).collect();
    assert_eq!(first, [11, 12, 14]);
    assert_eq!(set.train.at_hand(2).unwrap(), whole.train.at_hand(4).unwrap());
    let listed: Vec<String> = set.unreadable.iter().map(|bad| bad.file.display().to_string()).collect();
    let want = [
        "test/a/2.bmp",
        "test/b/4.tiff",
        "test/b/8.png",
        "train/a/0.png",
        "train/a/3.png",
        "train/a/9.webp",
        "train/b/1.jpg",
    ];
    assert_eq!(listed, want);
    assert!(set.unreadable[5].why.contains("is empty") && set.unreadable[6].why.contains("cut off"));
    assert!(
        set.files.len() == 15 && set.notes[0].starts_with("left out: 7 pictures (cannot be read; first test/a/2.bmp: ")
    );
    // Heads are read before pixels, training files before test files.
    assert!(strict(&dir).contains("train/a/9.webp at byte 0: the file is empty"), "{}", strict(&dir));
}

#[cfg(unix)]
#[test]
fn links_do_not_lead_in_circles() {
    let dir = tempfile::tempdir().unwrap();
    for i in 0..5 {
        grey(&dir.path().join(format!("train/a/{i}.png")), 2, 2, i);
    }
    std::os::unix::fs::symlink(dir.path(), dir.path().join("train/a/up")).unwrap();
    std::os::unix::fs::symlink(dir.path(), dir.path().join("train/a/up.png")).unwrap();
    let set = load_any(dir.path().to_str().unwrap()).unwrap();
    assert_eq!((set.train.len(), set.test.len(), set.left_out), (4, 1, 2));
    assert!(
        set.notes.iter().any(|note| note.contains("2 links (to a folder, which is not followed; first train/a/up)"))
    );
    std::os::unix::fs::symlink("itself.png", dir.path().join("train/a/itself.png")).unwrap();
    let set = load_any(dir.path().to_str().unwrap()).unwrap();
    assert_eq!((set.train.len(), set.left_out, set.unreadable.len()), (4, 3, 1));
    assert!(strict(&dir).contains("itself.png"));
}

#[test]
fn pictures_that_are_left_out_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    for part in ["train", "test", "val"] {
        for class in ["a", "b"] {
            grey(&at(&format!("{part}/{class}/0.png")), 2, 2, 9);
            grey(&at(&format!("{part}/{class}/1.png")), 2, 2, 10);
        }
    }
    let load = || load_any(dir.path().to_str().unwrap()).unwrap();
    let set = load();
    assert_eq!((set.left_out, set.train.labels.as_slice()), (0, [0, 0, 1, 1, 0, 0, 1, 1].as_slice()));
    let note = "val/: 4 more training images, as test/ is the test part and validation images are split off these";
    assert_eq!(set.notes, [note]);
    // The part has other names too, but one at a time.
    std::fs::rename(at("val"), at("valid")).unwrap();
    assert!(load().notes == [note.replace("val/", "valid/")] && load().train.len() == 8);
    std::fs::create_dir_all(at("validation")).unwrap();
    assert!(message(&dir).contains("valid/ and validation/"));
    std::fs::remove_dir_all(at("validation")).unwrap();
    std::fs::remove_dir_all(at("valid")).unwrap();
    assert!(load().notes.is_empty());
    grey(&at("train/a/more/1.png"), 2, 2, 7);
    grey(&at("train/b/more/2.png"), 2, 2, 7);
    grey(&at("train/3.png"), 2, 2, 7);
    for name in ["train/a/8.qoi", "train/a/9.GIF", "test/b/7.gif", "train/b/list.txt", "train/readme.md"] {
        std::fs::write(at(name), "x").unwrap();
    }
    let set = load();
    let note = "left out: 2 .gif files and 1 .qoi file (PNG, JPEG, WebP, BMP and TIFF are read; first test/b/7.gif); \
                1 picture (in no class folder; first train/3.png); \
                2 pictures (in sub-folders of a class; first train/a/more/1.png)";
    assert_eq!((set.left_out, set.notes.as_slice()), (6, [note.to_owned()].as_slice()));
    assert_eq!((set.train.len(), set.files.len()), (4, 8));
    // A class of nothing else.
    std::fs::create_dir(at("train/c")).unwrap();
    std::fs::write(at("train/c/1.heic"), "x").unwrap();
    let error = message(&dir);
    assert!(error.contains("train/c: no picture") && error.contains(".heic file"), "{error}");
}

#[test]
fn pictures_of_many_sizes_become_images_of_one() {
    let dir = tempfile::tempdir().unwrap();
    let shape = [90, 120, 3];
    let bytes = crate::data::resize::tests::picture(shape);
    let at = |name: &str| dir.path().join(name);
    for (i, name) in ["train/a/1.png", "train/b/1.bmp", "test/a/1.tiff", "test/b/1.webp"].into_iter().enumerate() {
        let (width, height) = if i == 3 { (120, 90) } else { (30 + 10 * i as u32, 50 - 15 * i as u32) };
        std::fs::create_dir_all(at(name).parent().unwrap()).unwrap();
        let image = RgbImage::from_fn(width, height, |x, y| {
            let place = (y as usize * 120 + x as usize) * 3;
            Rgb([bytes[place], bytes[place + 1], bytes[place + 2]])
        });
        image.save(at(name)).unwrap();
    }
    let spec = dir.path().to_str().unwrap();
    assert!(message(&dir).contains("pictures of 4 sizes"));
    let read = |resize, crop| load_with(spec, &Reading { resize, crop, handling: STRICT, ..Reading::default() });
    let set = read(None, Some(28)).unwrap();
    assert_eq!(
        (set.train.height, set.train.width, set.train.channels, set.train.len(), set.test.len()),
        (28, 28, 3, 2, 2)
    );
    // 90 rows become 32, 120 columns 42; of these the middle.
    use crate::data::resize::{Filter, resize};
    let whole = resize(&bytes, shape, [32, 42], Filter::Bilinear).unwrap();
    let test = set.test.reveal_for_final_evaluation();
    for row in 0..28 {
        assert_eq!(test.at_hand(1).unwrap()[row * 84..][..84], whole[((2 + row) * 42 + 7) * 3..][..84], "{row}");
    }
    assert_eq!(read(Some(20), None).unwrap().train.image_len(), 20 * 20 * 3);
    // A picture that is wide beyond measure takes no memory for what is cut off.
    grey(&at("test/b/wide.png"), 16_384, 1, 9);
    assert_eq!(read(Some(256), Some(24)).unwrap().test.len(), 3);
    assert_eq!(set.identity().unwrap().files, 4);
    let why = load_with(spec, &Reading { test_share: Some(0.5), crop: Some(9), ..Reading::default() })
        .unwrap_err()
        .to_string();
    assert!(why.contains("--test-share: the data have a test part"), "{why}");
    let why = read(Some(8), Some(9)).unwrap_err().to_string();
    assert!(why.starts_with("--resize: a shorter side of 8"), "{why}");
    let why = load_with("digits", &Reading { crop: Some(4), ..Reading::default() }).unwrap_err().to_string();
    assert!(why.contains("--crop") && why.contains("digits has images of one size, in parts"), "{why}");
}

#[test]
fn a_folder_of_classes_is_split_by_names() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    for i in 0..20 {
        grey(&at(&format!("cats/{i}.png")), 3, 2, i);
        grey(&at(&format!("dogs/{i}.png")), 3, 2, 100 + i);
    }
    let spec = dir.path().to_str().unwrap();
    let set = load_any(spec).unwrap();
    assert_eq!(
        (set.train.class_names.as_slice(), set.train.per_class()),
        (["cats".into(), "dogs".into()].as_slice(), vec![16, 16])
    );
    let note = "one folder of classes: 8 of 40 images, a fixed 20% of each class, were held out as the test part";
    assert_eq!(set.notes, [note]);
    let share = |test_share| load_with(spec, &Reading { test_share: Some(test_share), ..Reading::default() });
    let half = share(0.5).unwrap();
    assert_eq!((half.train.len(), half.test.len()), (20, 20));
    // Who is in the test part stays there when the share grows, and when others come.
    let values = |set: &Dataset| {
        set.test.reveal_for_final_evaluation().held().unwrap().chunks(6).map(|image| image[0]).collect::<Vec<_>>()
    };
    assert!(values(&set).iter().all(|value| values(&half).contains(value)));
    for share in [share(0.0), share(1.0), share(f64::NAN), share(-1.0)] {
        assert!(share.unwrap_err().to_string().starts_with("--test-share: "));
    }
    // A class without pictures, and folders that are parts.
    std::fs::create_dir(at("empty")).unwrap();
    assert!(message(&dir).contains("empty: no picture in this class folder"));
    std::fs::rename(at("empty"), at("test")).unwrap();
    assert!(message(&dir).contains("no known layout"));
}

#[cfg(target_os = "linux")]
#[test]
fn names_that_are_no_unicode_are_read() {
    use std::os::unix::ffi::OsStrExt;
    let dir = tempfile::tempdir().unwrap();
    let odd = |bytes: &[u8]| std::ffi::OsStr::from_bytes(bytes).to_owned();
    for class in [odd(b"c\xFF"), odd(b"d")] {
        for i in 0..4 {
            grey(&dir.path().join(&class).join(odd(&[b'p', 0xFE, b'0' + i, b'.', b'p', b'n', b'g'])), 2, 2, i);
        }
    }
    let set = load_any(dir.path().to_str().unwrap()).unwrap();
    assert_eq!((set.train.len(), set.test.len(), set.train.class_names[0].as_str()), (6, 2, "c\\xFF"));
}

#[test]
fn tiny_imagenet_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    for (class, value) in [("n01", 10), ("n02", 20)] {
        for i in 0..3 {
            grey(&at(&format!("train/{class}/images/{class}_{i}.JPEG")), 8, 8, value);
        }
        std::fs::write(at(&format!("train/{class}/{class}_boxes.txt")), "x").unwrap();
    }
    let list = at("val/val_annotations.txt");
    let row = |file: &str, class: &str| format!("{file}\t{class}\t0\t1\t2\t3\n");
    for (name, value) in [("val/images/val_0.JPEG", 20), ("val/images/val_1.JPEG", 10), ("test/images/t0.JPEG", 1)] {
        grey(&at(name), 8, 8, value);
    }
    let rows = [row("val_0.JPEG", "n02"), row("val_1.JPEG", "n01")].concat();
    std::fs::write(&list, &rows).unwrap();
    let set = load_any(dir.path().to_str().unwrap()).unwrap();
    assert_eq!((set.train.labels.as_slice(), set.left_out), ([0, 0, 0, 1, 1, 1].as_slice(), 1));
    let test = set.test.reveal_for_final_evaluation();
    assert_eq!(test.labels, [0, 1]);
    assert!(test.at_hand(0).unwrap()[0] < 15 && test.at_hand(1).unwrap()[0] > 15);
    assert_eq!(
        set.notes,
        ["test part: val/, as test/ has no labels", "left out: 1 picture (without labels; first test/images/t0.JPEG)"]
    );
    assert!(set.files.contains(&list) && set.files.len() == 9);
    // What is listed and not there, or there and not listed.
    std::fs::write(&list, rows.clone() + &row("val_2.JPEG", "n01")).unwrap();
    let error = message(&dir);
    assert!(error.contains("val_annotations.txt: line 3: no picture `val_2.JPEG`"), "{error}");
    std::fs::write(&list, rows.clone() + "val_2.JP").unwrap();
    assert!(message(&dir).contains("line 3: expected a file"));
    std::fs::write(&list, row("val_0.JPEG", "n02")).unwrap();
    assert_eq!(load_any(dir.path().to_str().unwrap()).unwrap().left_out, 2);
    // Without the list there are no labels, so some training images are held out.
    std::fs::remove_file(&list).unwrap();
    let set = load_any(dir.path().to_str().unwrap()).unwrap();
    assert_eq!((set.left_out, set.train.len() + set.test.len()), (3, 6));
}

#[test]
fn sizes_are_compared_as_pictures_are_turned() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    grey(&at("train/a/1.jpg"), 16, 8, 50);
    let upright = std::fs::read(at("train/a/1.jpg")).unwrap();
    for class in ["train/a", "train/b", "test/a", "test/b"] {
        grey(&at(&format!("{class}/1.png")), 8, 16, 50);
    }
    assert!(message(&dir).contains("8x16 (4, first train/a/1.png), 16x8 (1, first train/a/1.jpg)"));
    std::fs::write(at("train/a/1.jpg"), crate::data::picture::tests::tagged(&upright, 6)).unwrap();
    let set = load_any(dir.path().to_str().unwrap()).unwrap();
    assert_eq!((set.train.height, set.train.width, set.train.len()), (16, 8, 3));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]
    #[test]
    fn damaged_images_never_panic(jpeg: bool, at in 0usize..700, value: u8, keep in 1usize..900) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(if jpeg { "train/a/1.jpg" } else { "train/a/1.png" });
        grey(&path, 9, 9, 100);
        let mut bytes = std::fs::read(&path).unwrap();
        if let Some(byte) = bytes.get_mut(at) {
            *byte ^= value;
        }
        bytes.truncate(keep);
        std::fs::write(&path, &bytes).unwrap();
        if let Err(e) = load(dir.path(), &Reading::default()) {
            prop_assert!(e.to_string().contains(&dir.path().display().to_string()), "{}", e);
        }
    }
}
