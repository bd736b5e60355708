//! `scripts/setup.sh` on systems that are not there: package managers are small scripts that write down what they
//! were asked, and `/etc` is a folder of the test.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use tempfile::TempDir;

struct Machine(TempDir);

impl Machine {
    fn new(os_release: &str) -> Self {
        let machine = Self(tempfile::tempdir().unwrap());
        fs::write(machine.path("os-release"), os_release).unwrap();
        for folder in ["bin", "usr/sbin", "etc"] {
            fs::create_dir_all(machine.path(folder)).unwrap();
        }
        machine
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// A program that writes its arguments, and what it saw of the guards, to `log`.
    fn program(&self, name: &str, then: &str) {
        let root = self.0.path().display();
        let text = format!(
            "#!/bin/sh\n{{ echo \"{name} $*\"; ls -A {root}/usr/sbin; cat {root}/etc/postgresql-common/createcluster.conf 2>/dev/null; }} >> {root}/log\n{then}\n"
        );
        let path = self.path("bin").join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn setup(&self, user: u32, arguments: &[&str]) -> Output {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/setup.sh");
        let path = format!(
            "{}:{}",
            self.path("bin").display(),
            std::env::var("PATH").unwrap()
        );
        Command::new("bash")
            .arg(script)
            .args(arguments)
            .env("PATH", path)
            .env("SETUP_OS_RELEASE", self.path("os-release"))
            .env("SETUP_PREFIX", self.0.path())
            .env("SETUP_ASSUME_MISSING", "1")
            .env("SETUP_UID", user.to_string())
            .output()
            .unwrap()
    }

    fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }
}

fn out(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

const DEBIAN: &str = "ID=debian\nVERSION_ID=12\n";

#[test]
fn each_family_is_asked_in_its_own_words() {
    for (release, manager, redis) in [
        (DEBIAN, "apt-get install -y", "redis-server"),
        (
            "ID=ubuntu\nID_LIKE=debian\n",
            "apt-get install -y",
            "redis-server",
        ),
        (
            "ID=\"rocky\"\nID_LIKE=\"rhel centos fedora\"\n",
            "dnf install -y",
            "valkey",
        ),
        ("ID=fedora\n", "dnf install -y", "valkey"),
        ("ID=arch\n", "pacman -S", "valkey"),
    ] {
        let machine = Machine::new(release);
        let output = machine.setup(0, &["--dry-run", "--test"]);
        let said = out(&output);
        assert!(output.status.success(), "{said}");
        let line = said
            .lines()
            .find(|line| line.starts_with("would run:") && line.contains(manager));
        let line = line.unwrap_or_else(|| panic!("{release}: {said}"));
        for package in [
            "postgresql",
            redis,
            "bubblewrap",
            "git",
            "nodejs",
            "npm",
            "chromium",
            "skopeo",
            "podman",
        ] {
            assert!(
                line.split(' ').any(|word| word.starts_with(package)),
                "{release}: {package} is not in {line}"
            );
        }
        assert!(said.contains("Rust is missing"), "{said}");
        assert_eq!(machine.log(), "", "a dry run asks nobody");
    }
    let without = Machine::new(DEBIAN).setup(0, &["--dry-run"]);
    for package in ["chromium", "skopeo", "podman"] {
        assert!(!out(&without).contains(package), "{package} is for tests");
    }
}

#[test]
fn systems_that_cannot_run_it_are_told_why() {
    let alpine = Machine::new("ID=alpine\n").setup(0, &[]);
    assert!(
        !alpine.status.success() && out(&alpine).contains("glibc"),
        "{}",
        out(&alpine)
    );
    let unknown = Machine::new("ID=haiku\n").setup(0, &[]);
    assert!(
        !unknown.status.success() && out(&unknown).contains("by hand"),
        "{}",
        out(&unknown)
    );
    let wrong = Machine::new(DEBIAN).setup(0, &["--tset"]);
    assert_eq!(wrong.status.code(), Some(2));
}

#[test]
fn without_root_it_says_the_command_and_goes_on() {
    let machine = Machine::new(DEBIAN);
    machine.program("apt-get", "exit 0");
    let said = out(&machine.setup(1000, &[]));
    assert!(
        said.contains("sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y"),
        "{said}"
    );
    assert!(said.contains("going on with what is there"), "{said}");
    assert_eq!(machine.log(), "", "nothing was tried");
}

#[test]
fn no_cluster_is_made_and_no_service_is_started() {
    let machine = Machine::new(DEBIAN);
    machine.program("apt-get", "exit 0");
    machine.program("systemctl", "exit 0");
    fs::create_dir_all(machine.path("run/systemd/system")).unwrap();
    let output = machine.setup(0, &[]);
    // 1 because Rust is missing; everything before that went through.
    assert_eq!(output.status.code(), Some(1), "{}", out(&output));
    let log = machine.log();
    let install = log.split("apt-get install").nth(1).unwrap();
    assert!(
        install.contains("\npolicy-rc.d\n"),
        "services are held back: {log}"
    );
    assert!(install.contains("\ncreate_main_cluster = false\n"), "{log}");
    assert!(log.contains("systemctl disable --quiet redis-server"), "{log}");
    assert_eq!(
        fs::read_dir(machine.path("usr/sbin")).unwrap().count(),
        0,
        "the guard is gone again"
    );
}

#[test]
fn what_was_decided_before_stays_as_it_is() {
    let machine = Machine::new(DEBIAN);
    machine.program("apt-get", "exit 0");
    let (guard, cluster) = (
        machine.path("usr/sbin/policy-rc.d"),
        machine.path("etc/postgresql-common/createcluster.conf"),
    );
    fs::create_dir_all(cluster.parent().unwrap()).unwrap();
    fs::write(&guard, "mine").unwrap();
    fs::write(&cluster, "create_main_cluster = true\n").unwrap();
    machine.setup(0, &[]);
    assert!(machine.log().contains("apt-get install"));
    assert_eq!(fs::read_to_string(guard).unwrap(), "mine");
    assert_eq!(
        fs::read_to_string(cluster).unwrap(),
        "create_main_cluster = true\n"
    );
}

#[test]
fn a_package_manager_that_fails_ends_it_and_the_guard_goes() {
    let machine = Machine::new(DEBIAN);
    machine.program("apt-get", "case \"$1\" in install) exit 100 ;; esac");
    let output = machine.setup(0, &[]);
    assert_eq!(output.status.code(), Some(100), "{}", out(&output));
    assert!(machine.log().contains("policy-rc.d"));
    assert_eq!(fs::read_dir(machine.path("usr/sbin")).unwrap().count(), 0);
}
