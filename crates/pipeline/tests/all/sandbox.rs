//! What a step cannot do.

use crate::support::{Fixture, job};
use astraler_pipeline::{Conclusion, DeployAccess};
use std::io::Write;
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

#[tokio::test(flavor = "multi_thread")]
async fn a_job_with_an_environment_gets_its_socket_and_token_and_no_other_job_does() {
    let folder = tempfile::tempdir().unwrap();
    let (socket, token_file) = (folder.path().join("deploy.sock"), folder.path().join("token"));
    std::fs::File::create(&token_file)
        .unwrap()
        .write_all(b"job-token-of-staging\n")
        .unwrap();
    let listener = tokio::net::UnixListener::bind(&socket).unwrap();
    let serving = tokio::spawn(async move {
        let (mut client, _) = listener.accept().await.unwrap();
        let mut head = vec![0; 4096];
        let count = client.read(&mut head).await.unwrap();
        client
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\nConnection: close\r\n\r\ndeployed\n")
            .await
            .unwrap();
        String::from_utf8_lossy(&head[..count]).into_owned()
    });
    let edge = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = edge.local_addr().unwrap().port();
    let reached = tokio::spawn(async move {
        let (mut client, _) = edge.accept().await.unwrap();
        let mut head = vec![0; 4096];
        let _ = client.read(&mut head).await.unwrap();
        client
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\npage\n")
            .await
            .unwrap();
    });
    let ci = format!(
        r#"
on: push
jobs:
  plain:
    runs-on: x
    steps:
      - run: |
          test ! -e /run/astraler/deploy.sock && test -z "$ASTRALER_TOKEN_FILE" && test -z "${{{{ secrets.ASTRALER_TOKEN }}}}"
          ! curl -s --max-time 5 http://staging.localhost:{port}/
  deploy:
    runs-on: x
    environment: {{ name: staging, url: "${{{{ steps.d.outputs.url }}}}" }}
    steps:
      - id: d
        env: {{ TOKEN: "${{{{ secrets.ASTRALER_TOKEN }}}}" }}
        run: |
          test "$TOKEN" = "$(cat "$ASTRALER_TOKEN_FILE")"
          curl -sS --unix-socket "$ASTRALER_SOCKET" -H "Authorization: Bearer $TOKEN" http://astraler/v1/deploy
          echo "url=http://staging.localhost" >> "$GITHUB_OUTPUT"
      - run: curl -sS http://staging.localhost:{port}/
"#
    );
    let mut fixture = Fixture::new(&ci, &[]);
    fixture.spec.ports = vec![port];
    fixture
        .spec
        .deploys
        .insert("staging".into(), DeployAccess { socket, token_file });
    let ran = fixture.run().await;
    assert_eq!(ran.report.conclusion, Conclusion::Success, "{}", ran.all());
    assert!(serving.await.unwrap().contains("Bearer job-token-of-staging"));
    reached.await.unwrap();
    assert!(!ran.all().contains("job-token-of-staging"), "{}", ran.all());
    assert_eq!(ran.output("deploy"), ["deployed", "page"]);
    let deploy = ran.report.jobs.iter().find(|job| job.id == "deploy").unwrap();
    assert_eq!(deploy.environment.as_deref(), Some("staging"));
    assert_eq!(deploy.url.as_deref(), Some("http://staging.localhost"));
}
