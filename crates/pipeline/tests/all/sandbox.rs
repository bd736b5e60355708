//! What a step cannot do.

use crate::support::{Fixture, job};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

#[tokio::test(flavor = "multi_thread")]
async fn the_machine_is_out_of_reach() {
    let secret = tempfile::tempdir().unwrap();
    let path = secret.path().join("root.key");
    std::fs::write(&path, "root key").unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let own = std::process::id();
    let steps = format!(
        r#"
      - run: |
          set +e
          denied() {{ if "$@" > /dev/null 2>&1; then echo "POSSIBLE: $*"; else echo denied; fi; }}
          denied cat {path}
          denied ls /root
          denied ls /var
          denied cat /etc/shadow
          denied touch /usr/bin/x
          denied touch /etc/x
          denied sh -c 'echo x > /proc/sys/kernel/core_pattern'
          denied sh -c 'echo b > /proc/sysrq-trigger'
          denied bash -c 'exec 3<>/dev/tcp/127.0.0.1/{port}'
          denied bash -c 'exec 3<>/dev/tcp/1.1.1.1/443'
          denied mount -t tmpfs none /mnt
          denied unshare -m true
          denied kill -0 {own}
          denied ls /run/astraler/../user
          denied touch /run/astraler/repository.git/x
          denied touch /opt/hostedtoolcache/x
          denied touch /x
          denied touch /dev/x
          echo "init $(tr '\0' ' ' < /proc/1/environ)"
          denied sh -c 'ls /sys/fs/cgroup'
          echo "processes $(ls /proc | grep -c '^[0-9]*$' | awk '{{ print ($1 < 12) }}')"
          touch "$HOME/x" /tmp/x "$GITHUB_WORKSPACE/x" "$RUNNER_TEMP/x" && echo writable
          id -u
"#,
        path = path.display()
    );
    let ran = Fixture::new(&job(&steps), &[]).run().await;
    let output = ran.output("job");
    assert!(!output.iter().any(|line| line.contains("POSSIBLE")), "{output:?}");
    assert_eq!(
        output.iter().filter(|line| **line == "denied").count(),
        19,
        "{output:?}"
    );
    assert!(
        output.contains(&"writable") && output.contains(&"processes 1"),
        "{output:?}"
    );
    assert!(
        output.contains(&"1001") && output.contains(&"init PWD=/ "),
        "{output:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_network_leads_to_the_registries_and_names_what_it_refuses() {
    let server = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = server.local_addr().unwrap().port();
    let serving = tokio::spawn(async move {
        loop {
            let (mut client, _) = server.accept().await.unwrap();
            let mut head = vec![0; 4096];
            let _ = client.read(&mut head).await;
            let _ = client
                .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\nConnection: close\r\n\r\npackages\n")
                .await;
        }
    });
    let steps = format!(
        "
      - run: |
          curl -sS --noproxy '' http://127.0.0.1:{port}/x
          curl -sS --max-time 10 https://example.com/ || echo refused
"
    );
    let mut fixture = Fixture::new(&job(&steps), &[]);
    fixture.spec.registries = vec![format!("http://127.0.0.1:{port}")];
    let ran = fixture.run().await;
    let output = ran.output("job");
    assert!(
        output.contains(&"packages") && output.contains(&"refused"),
        "{output:?}"
    );
    assert!(
        output
            .iter()
            .any(|line| line.contains("example.com:443 was refused")),
        "{output:?}"
    );
    serving.abort();
}
