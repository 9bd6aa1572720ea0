//! `altiplano data` from outside: what is noted of a data set, and what it says about data that is not as it should be.

use altiplano::data::npy::{write_npy_f32, write_npy_u8};
use image::{GrayImage, Luma};

use crate::program::{ARCH, Scratch, short};

/// A picture that differs from others.
fn picture(scratch: &Scratch, name: &str, value: u8) {
    let path = scratch.path(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    GrayImage::from_fn(4, 4, |x, y| Luma([value + (3 * x + y) as u8])).save(path).unwrap();
}

/// Labels and test images of a set of arrays; the training images are another matter.
fn arrays(scratch: &Scratch, labels: &[u8]) {
    std::fs::create_dir_all(scratch.path("set")).unwrap();
    let write = |name: &str, shape: &[usize], data: &[u8]| {
        write_npy_u8(&scratch.path(&format!("set/{name}.npy")), shape, data).unwrap();
    };
    write("y_train", &[labels.len()], labels);
    write("y_test", &[1], &labels[..1]);
    write("x_test", &[1, 8, 8, 3], &[50; 192]);
}

#[test]
fn files_that_are_left_out_are_told() {
    let scratch = Scratch::new();
    for part in ["train", "test"] {
        for class in ["a", "b"] {
            picture(&scratch, &format!("set/{part}/{class}/1.png"), 20);
            picture(&scratch, &format!("set/{part}/{class}/2.png"), 90);
        }
    }
    let whole = scratch.good(&["data", "verify", "set"]);
    assert!(whole.contains("\nwhole: yes") && !whole.contains("note:"), "{whole}");
    scratch.write("set/train/a/8.heic", "x");
    scratch.write("set/train/a/9.gif", "x");
    scratch.write("set/train/a/notes.txt", "x");
    picture(&scratch, "set/train/b/more/3.png", 5);
    let verified = scratch.good(&["data", "verify", "set"]);
    assert!(verified.contains("\nwhole: what was read is; left out 3, see the note\n"), "{verified}");
    let note = "\nnote: left out: 1 .gif file and 1 .heic file (PNG, JPEG, WebP, BMP and TIFF are read; first train/a/8.heic); \
                1 picture (in sub-folders of a class; first train/b/more/3.png)\n";
    assert!(verified.contains(note), "{verified}");
    let info = scratch.good(&["data", "info", "set"]);
    assert!(info.contains(note) && !info.contains("whole"), "{info}");
    let json = scratch.json(&["data", "info", "set", "--json"]);
    assert_eq!((json["left_out"].as_u64(), json["notes"].as_array().map(Vec::len)), (Some(3), Some(1)));
    assert_eq!(json["train"]["images"], 4);
}

#[test]
fn arrays_that_are_no_images_say_what_to_do() {
    let scratch = Scratch::new();
    arrays(&scratch, &[0, 1]);
    let images = scratch.path("set/x_train.npy");
    let values = |scale: f32, shift: f32| -> Vec<f32> { (0..384).map(|i| i as f32 / 383.0 * scale + shift).collect() };
    for (values, advice) in [
        (values(1.0, 0.0), "convert with (255 * x).round().astype('uint8')"),
        (values(255.0, 0.0), "convert with .round().astype('uint8')"),
        (values(4.0, -2.0), "from -2 to 2, which looks normalised"),
    ] {
        write_npy_f32(&images, &[2, 8, 8, 3], &values).unwrap();
        scratch.bad(2, &["data", "info", "set"], &["x_train.npy", "found float32", advice]);
    }
    write_npy_u8(&images, &[2, 3, 8, 8], &[9; 384]).unwrap();
    scratch.bad(2, &["data", "verify", "set"], &["x_train.npy", "channels first", "np.transpose(x, (0, 2, 3, 1))"]);
}

#[test]
fn labels_from_one_and_lost_pixels_are_noted() {
    let scratch = Scratch::new();
    arrays(&scratch, &[1, 2]);
    let images = scratch.path("set/x_train.npy");
    write_npy_u8(&images, &[2, 8, 8, 3], &(0..384).map(|i| (i % 251) as u8).collect::<Vec<_>>()).unwrap();
    let info = scratch.good(&["data", "info", "set"]);
    assert!(info.contains("\nnote: no training image in class 0 (`0`); labels count from 0\n"), "{info}");
    write_npy_u8(&images, &[2, 8, 8, 3], &[0; 384]).unwrap();
    let json = scratch.json(&["data", "verify", "set", "--json"]);
    assert!(
        json["notes"][1].as_str().unwrap().contains("all pixels of the training images have the value 0"),
        "{json}"
    );
    // Nothing was left out.
    assert!(scratch.good(&["data", "verify", "set"]).contains("whole: yes"));
}

#[test]
fn pictures_that_cannot_be_read_are_listed_or_refused() {
    let scratch = Scratch::new();
    for part in ["train", "test"] {
        for class in ["a", "b"] {
            picture(&scratch, &format!("set/{part}/{class}/1.png"), 20);
            picture(&scratch, &format!("set/{part}/{class}/2.bmp"), 90);
        }
    }
    assert!(scratch.good(&["data", "verify", "set", "--strict-data"]).contains("\nwhole: yes"));
    scratch.write("set/train/a/3.webp", "");
    scratch.write("set/test/b/3.jpg", "nothing");
    let verified = scratch.good(&["data", "verify", "set"]);
    let note =
        "\nnote: left out: 2 pictures (cannot be read; first test/b/3.jpg: at byte 0: the contents are no picture; ";
    assert!(verified.contains("left out 2, see the note") && verified.contains(note), "{verified}");
    assert!(verified.contains("\ncannot be read: train/a/3.webp: at byte 0: the file is empty\n"), "{verified}");
    let json = scratch.json(&["data", "verify", "set", "--json"]);
    assert_eq!(json["unreadable"][1]["file"], "train/a/3.webp", "{json}");
    scratch.bad(2, &["data", "verify", "set", "--strict-data"], &["train/a/3.webp", "the file is empty"]);
    let train = ["train", "--data", "set", "--arch", ARCH, "--out", "run", "--strict-data"];
    scratch.bad(2, &train, &["train/a/3.webp", "the file is empty"]);
    // All that a class has.
    scratch.write("set/train/a/1.png", "");
    scratch.write("set/train/a/2.bmp", "BM");
    scratch.bad(2, &["data", "info", "set"], &["set: no picture of the class `a` can be read; train/a/1.png: "]);
}

#[test]
fn runs_keep_how_pictures_are_read() {
    let scratch = Scratch::new();
    for part in ["train", "test"] {
        for class in 0..2 {
            for i in 0..12 {
                let path = scratch.path(&format!("set/{part}/{class}/{i}.png"));
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                let value = |x, y| (20 * i + 9 * x * (class + 1) + 5 * y) as u8;
                GrayImage::from_fn(10 + i % 3, 14, |x, y| Luma([value(x, y)])).save(path).unwrap();
            }
        }
    }
    let sizes =
        "set: pictures of 3 sizes: 10x14 (16, first train/0/0.png), 11x14 (16, first train/0/1.png), 12x14 (16, ";
    scratch.bad(2, &["data", "info", "set"], &[sizes, "--crop SIDE"]);
    let info = scratch.json(&["data", "info", "set", "--crop", "8", "--json"]);
    assert_eq!((&info["height"], &info["width"]), (&8.into(), &8.into()));
    scratch.bad(2, &["data", "info", "set", "--crop", "8", "--resize", "7"], &["--resize", "expected 8"]);
    scratch.bad(2, &["data", "info", "digits", "--crop", "8"], &["--crop", "are for pictures in files; digits has"]);
    scratch.good(&short("run", &["--data", "set", "--batch", "8", "--crop", "8", "--resize", "10"]));
    let config = String::from_utf8(scratch.read("run/config.toml")).unwrap();
    assert!(config.contains("[reading]\nresize = 10\ncrop = 8\n"), "{config}");
    // It goes on so without a word, and as another run from its settings.
    let best = scratch.read("run/best.safetensors");
    scratch.good(&["train", "--quiet", "--resume", "--out", "run"]);
    scratch.good(&["train", "--quiet", "--resume", "--out", "run", "--crop", "8", "--strict-data"]);
    let other = ["train", "--quiet", "--resume", "--out", "run", "--crop", "9"];
    scratch.bad(2, &other, &["--resume", "reading.crop is 8 in the run and 9 by the options"]);
    scratch.good(&["train", "--quiet", "--config", "run/config.toml", "--out", "again"]);
    assert!(scratch.read("again/best.safetensors") == best);
    scratch.good(&["train", "--quiet", "--config", "run/config.toml", "--out", "larger", "--resize", "12"]);
    let config = String::from_utf8(scratch.read("larger/config.toml")).unwrap();
    assert!(config.contains("[reading]\nresize = 12\ncrop = 8\n"), "{config}");
    // The model's file says it to those who judge it, who may be told otherwise.
    let evaluate = ["evaluate", "--model", "run/best.safetensors", "--data", "set", "--corruptions", "none", "--json"];
    let evaluated = scratch.json(&[&evaluate[..], &["--crop", "8", "--resize", "10"]].concat());
    assert_eq!((&evaluated["reading"]["crop"], &evaluated["images"]), (&8.into(), &24.into()));
    let told = scratch.run(&evaluate);
    assert!(told.stderr.contains("pictures are read as the model's were: shorter side 10, of that the middle 8x8"));
    assert_eq!(serde_json::from_str::<serde_json::Value>(&told.stdout).unwrap(), evaluated);
    let other = scratch.json(&[&evaluate[..], &["--crop", "8"]].concat());
    assert_eq!(other["reading"], serde_json::json!({"crop": 8}));
    scratch.good(&["export", "run/best.safetensors", "--onnx", "run/a.onnx", "--card", "run/card.md"]);
    let said = "shorter side 10, of that the middle 8x8";
    assert!(String::from_utf8(scratch.read("run/card.md")).unwrap().contains(&format!("before: {said}. ")));
    assert!(scratch.read("run/a.onnx").windows(said.len()).any(|bytes| bytes == said.as_bytes()));
    // Of arrays nothing of it applies, and of a set with a test part no share.
    scratch.good(&short("shared", &["--data", "set/train", "--batch", "8", "--crop", "8", "--test-share", "0.5"]));
    let evaluate = |data: &str| {
        let model = "shared/best.safetensors";
        let args = ["evaluate", "--model", model, "--data", data, "--corruptions", "none", "--json"];
        scratch.json(&args)
    };
    assert_eq!((&evaluate("set/train")["images"], &evaluate("set")["images"]), (&12.into(), &24.into()));
    assert_eq!(evaluate("set")["reading"], serde_json::json!({"crop": 8}));
}

#[test]
fn folders_of_classes_and_tables_of_labels_are_sets() {
    let scratch = Scratch::new();
    let mut rows = String::from("path,class,split\n");
    for i in 0..30_u8 {
        for class in ["cats", "dogs"] {
            picture(&scratch, &format!("set/{class}/{i}.png"), 4 * i + 100 * u8::from(class == "dogs"));
            rows += &format!("{class}/{i}.png,{class},{}\n", if i < 20 { "train" } else { "test" });
        }
    }
    let info = scratch.json(&["data", "info", "set", "--test-share", "0.3", "--json"]);
    assert_eq!((&info["format"], &info["train"]["images"]), (&"image-folder".into(), &42.into()));
    let share = ["--data", "set", "--batch", "8", "--test-share", "0.3"];
    scratch.good(&short("run", &share));
    let config = String::from_utf8(scratch.read("run/config.toml")).unwrap();
    assert!(config.contains("[reading]\ntest_share = 0.3\n"), "{config}");
    scratch.good(&["train", "--quiet", "--resume", "--out", "run"]);
    scratch.write("set/labels.csv", &rows);
    let info = scratch.json(&["data", "info", "set/labels.csv", "--json"]);
    assert_eq!((&info["format"], &info["train"]["images"]), (&"label-table".into(), &40.into()));
    // The run goes on with what it began with, and that now has labels of its own.
    scratch.bad(2, &["train", "--quiet", "--resume", "--out", "run"], &["--test-share", "the data have a test part"]);
    scratch.good(&short("table", &["--data", "set/labels.csv", "--batch", "8"]));
    scratch.good(&["train", "--quiet", "--resume", "--out", "table"]);
    // A table in the folder where the program runs, by its name alone.
    let model = ["--model", "table/best.safetensors", "--corruptions", "none", "--json"];
    scratch.write("labels.csv", rows.replace("cats/", "set/cats/").replace("dogs/", "set/dogs/"));
    let [bare, below] = ["labels.csv", "set/labels.csv"]
        .map(|table| scratch.json(&[&["evaluate", "--data", table][..], &model].concat()));
    assert!(bare["clean"] == below["clean"] && bare["inputs"]["data"]["files"] == 61);
    std::fs::remove_file(scratch.path("labels.csv")).unwrap();
    scratch.write("set/labels.csv", rows.replace("dogs/0.png,dogs", "dogs/0.png,cats"));
    scratch.bad(2, &["train", "--quiet", "--resume", "--out", "table"], &["--data", "is not what the run began with"]);
    scratch.write("set/labels.csv", rows + "../other/1.png,cats,train\n");
    let climbing = ["labels.csv: line 62", "`../other/1.png` leads out of the table's folder"];
    scratch.bad(2, &["data", "verify", "set"], &climbing);
}
