//! The control plane reads and sets what may change while Redis runs; nobody else does, and it sees no data.

use crate::instance::{CONTROL_PASSWORD, Instance, PASSWORD};
use astraler_redis::{CONTROL_USER, ClientError, Control, USER};
use std::process::Command;

#[tokio::test]
async fn settings_are_read_and_set_by_the_control_plane_alone() {
    let instance = Instance::running().await;
    let socket = &instance.config.socket;
    let control = Control::new(socket, CONTROL_PASSWORD);
    let names = ["maxmemory", "maxmemory-policy", "appendfsync"];
    let settings = control.settings(&names).await.unwrap();
    assert_eq!(settings["maxmemory"], (64 << 20).to_string());
    assert_eq!(settings["maxmemory-policy"], "noeviction");
    assert_eq!(settings["appendfsync"], "always");
    control.set("maxmemory", "1048576").await.unwrap();
    assert_eq!(
        control.settings(&["maxmemory"]).await.unwrap()["maxmemory"],
        "1048576"
    );
    let version = control.version().await.unwrap();
    assert_eq!(
        version, instance.config.binary.version,
        "what runs is what was found"
    );

    let refused = control.set("dir", "/tmp").await.unwrap_err();
    assert!(matches!(refused, ClientError::Refused { .. }), "{refused}");
    let refused = Control::new(socket, "wrong").settings(&names).await.unwrap_err();
    assert!(matches!(refused, ClientError::Refused { .. }), "{refused}");
    for (user, password, command) in [
        (CONTROL_USER, CONTROL_PASSWORD, &["GET", "a"][..]),
        (CONTROL_USER, CONTROL_PASSWORD, &["KEYS", "*"]),
        (CONTROL_USER, CONTROL_PASSWORD, &["SHUTDOWN"]),
        (USER, PASSWORD, &["CONFIG", "GET", "*"]),
        (USER, PASSWORD, &["CONFIG", "SET", "maxmemory", "1"]),
    ] {
        let output = Command::new("redis-cli")
            .arg("-s")
            .arg(socket)
            .args(["--user", user])
            .args(command)
            .env("REDISCLI_AUTH", password)
            .output()
            .unwrap();
        let answer = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(answer.contains("NOPERM"), "{user} {command:?}: {answer}");
    }
}
