//! `altiplano data download` from outside: what it prints, and what it says about servers; the ways in which these fail are
//! tested beside the code.

use crate::program::Scratch;

fn download<'a>(options: &[&'a str]) -> Vec<&'a str> {
    [&["data", "download", "--out", "sets"], options].concat()
}

#[test]
fn commands_are_printed_where_nothing_is_fetched() {
    let scratch = Scratch::new();
    let text = scratch.good(&download(&["--dry-run", "mnist", "cifar10-c", "mnist"]));
    for part in [
        "\nmkdir -p sets/mnist\n",
        "\ncurl --fail -L -C - -o sets/mnist/t10k-labels-idx1-ubyte.gz \
         https://ossci-datasets.s3.amazonaws.com/mnist/t10k-labels-idx1-ubyte.gz   # 4542 bytes\n\
         echo 'ec29112dd5afa0611ce80d1b7f02629c  sets/mnist/t10k-labels-idx1-ubyte.gz' | md5sum -c -\n",
        "\n# it is read by --data sets/mnist\n",
        "\ntar -xf sets/CIFAR-10-C.tar -C sets\n# it is read by --corrupted sets/CIFAR-10-C\n",
        "torchvision/datasets/mnist.py",
    ] {
        assert!(text.contains(part), "{text}");
    }
    assert_eq!(text.matches("# mnist: ").count(), 1);
    assert!(scratch.files().is_empty());
    // Whatever else a line says stands behind `#`.
    let commands = ["mkdir -p ", "curl --fail ", "echo ", "tar -xf ", "#"];
    let known = |line: &str| line.is_empty() || commands.iter().any(|command| line.starts_with(command));
    assert!(text.lines().all(known), "{text}");

    let json = scratch.json(&download(&["--dry-run", "fashion-mnist", "--json"]));
    assert_eq!((&json["done"], json["sets"].as_array().unwrap().len()), (&false.into(), 1));
    let set = &json["sets"][0];
    assert_eq!((&set["option"], &set["data"]), (&"--data".into(), &"sets/fashion-mnist".into()));
    let first = &set["files"][0];
    assert_eq!((&first["md5"], &first["bytes"]), (&"8d4fb7e6c68d591d4c3dfef9ec88bf0d".into(), &26_421_880.into()));
    assert_eq!(first["state"], "planned");
    let build = if cfg!(feature = "download") { None } else { Some("cargo build --release --features download") };
    assert_eq!(json["build"].as_str(), build);
}

#[test]
fn what_cannot_be_downloaded_is_told() {
    let scratch = Scratch::new();
    let text = scratch.good(&["data", "list"]);
    for name in ["cifar10", "cifar100", "mnist", "fashion-mnist", "cifar10-c", "cifar100-c"] {
        assert!(text.contains(&format!("\n    altiplano data download {name} --out DIR\n")), "{text}");
    }
    let json = scratch.json(&["data", "list", "--json"]);
    let found = |name: &str| json.as_array().unwrap().iter().find(|known| known["name"] == name).unwrap();
    assert_eq!(found("cifar-10")["download"], "cifar10");
    assert!(found("emnist").get("download").is_none());
    scratch.bad(2, &download(&["cifar-10"]), &["data set: `cifar-10` is unknown", "cifar10"]);
    scratch.bad(2, &download(&["mnist", "--mirror", "ftp://a"]), &["--mirror", "not the address of a folder"]);
    let two = ["mnist", "fashion-mnist", "--mirror", "http://127.0.0.1:1"];
    scratch.bad(2, &download(&two), &["--mirror", "names of another set's; download them one by one"]);
}

/// A set that a server of these tests gives has the names and checksums of a published one, and such files are not at hand; so what
/// comes is wrong, and it is told.
#[cfg(feature = "download")]
mod over_the_network {
    use super::*;
    use crate::program::refs;
    use crate::server::{Server, whole};

    /// Runs the program without the proxies of whoever runs the test.
    fn run(scratch: &Scratch, proxies: &[(&str, &str)], args: &[&str]) -> (i32, String, String) {
        let mut command = scratch.command(args);
        for name in ["ALL_PROXY", "HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY"] {
            command.env_remove(name).env_remove(name.to_lowercase());
        }
        let output = command.envs(proxies.iter().copied()).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
    }

    #[test]
    fn wrong_bytes_are_told_and_not_kept() {
        let scratch = Scratch::new();
        let server = Server::new(|_, stream| whole(stream, &[7; 9_912_422]));
        let args = ["mnist", "--mirror", &server.address, "--json"].map(str::to_owned);
        let (code, stdout, stderr) = run(&scratch, &[], &download(&refs(&args)));
        assert_eq!((code, stdout.as_str()), (1, ""));
        assert!(
            stderr.contains("downloading") || stderr.contains("sets/mnist/train-images-idx3-ubyte.gz, in KiB"),
            "{stderr}"
        );
        assert!(stderr.contains("published is f68b3c2dcbeaaa9fbdd348bbdeb94873"), "{stderr}");
        assert!(scratch.files().is_empty(), "{:?}", scratch.files());
        assert_eq!(server.requests()[0].line, "GET /train-images-idx3-ubyte.gz HTTP/1.1");
        // Of another length it is refused before it comes.
        let short = Server::new(|_, stream| whole(stream, b"<html>Please log in</html>"));
        let args = ["cifar10", "--quiet", "--mirror", &short.address].map(str::to_owned);
        let (code, _, stderr) = run(&scratch, &[], &download(&refs(&args)));
        let why = format!(
            "error: {}/cifar-10-binary.tar.gz: the server has 26 bytes; the published file has 170052171\n",
            short.address
        );
        assert_eq!((code, stderr), (1, why));
        assert!(scratch.files().is_empty());
    }

    #[test]
    fn proxies_of_the_environment_are_used() {
        let scratch = Scratch::new();
        let server = Server::new(|_, stream| whole(stream, b"x"));
        let args = download(&["mnist", "--quiet", "--mirror", "http://mirror.invalid/a"]);
        let (code, _, stderr) = run(&scratch, &[("http_proxy", &server.address)], &args);
        assert_eq!(code, 1);
        assert!(
            stderr.contains("http://mirror.invalid/a/train-images-idx3-ubyte.gz: the server has 1 bytes"),
            "{stderr}"
        );
        let lines: Vec<String> = server.requests().into_iter().map(|request| request.line).collect();
        assert_eq!(lines, ["CONNECT mirror.invalid:80 HTTP/1.1", "GET /a/train-images-idx3-ubyte.gz HTTP/1.1"]);
        // But for hosts that need none.
        let args = ["mnist", "--quiet", "--mirror", &server.address].map(str::to_owned);
        let (proxy, none) = (("ALL_PROXY", "http://proxy.invalid:1"), ("NO_PROXY", "localhost,127.0.0.1"));
        let (_, _, stderr) = run(&scratch, &[proxy, none], &download(&refs(&args)));
        assert!(stderr.contains("the server has 1 bytes"), "{stderr}");
        assert_eq!(server.requests().len(), 3);
    }

    #[test]
    fn corrupted_images_that_were_unpacked_are_left_alone() {
        let scratch = Scratch::new();
        scratch.write("sets/CIFAR-10-C/labels.npy", "x");
        let before = scratch.files();
        let (code, stdout, stderr) = run(&scratch, &[], &download(&["cifar10-c", "--mirror", "http://127.0.0.1:1"]));
        assert_eq!(code, 0, "{stderr}");
        assert!(stdout.contains("was unpacked before, and is not checked"), "{stdout}");
        assert!(stdout.contains("cifar10-c: --corrupted sets/CIFAR-10-C\n"), "{stdout}");
        assert_eq!(scratch.files(), before);
    }
}
