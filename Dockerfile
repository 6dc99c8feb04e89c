# Builds amqpost and packs it into a small image that runs as an unprivileged user.
#
#     docker build -t amqpost .
#
# As a sidecar (the default) it takes requests at 127.0.0.1:8672, which only the containers of one
# pod reach: amqpost publishes for everybody who can talk to it. To serve other containers or hosts,
# open it on purpose with AMQPOST__HTTP__LISTEN=0.0.0.0:8672, on a network that only trusted clients
# reach.

FROM rust:1-slim-trixie AS build
# The allocator is built with make; the image has only the compiler.
# hadolint ignore=DL3008
RUN apt-get update && apt-get install -y --no-install-recommends make && rm -rf /var/lib/apt/lists/*
WORKDIR /build
COPY . .
# The caches keep downloaded and compiled dependencies between builds and are not part of any layer;
# the same step copies the binary out of them. They survive a checkout, and cargo compares only
# times: touch makes the sources newer than anything built from another checkout.
RUN --mount=type=cache,target=/usr/local/cargo/registry,sharing=locked \
    --mount=type=cache,target=/build/target,sharing=locked \
    touch src/lib.rs src/main.rs && \
    cargo build --release --locked && \
    install -m 0755 target/release/amqpost /usr/local/bin/amqpost

FROM debian:trixie-slim
LABEL org.opencontainers.image.title="amqpost" \
      org.opencontainers.image.description="Publishes to RabbitMQ for applications that speak HTTP" \
      org.opencontainers.image.licenses="MIT"
# The certificate authorities are for amqps:// endpoints with a public certificate. /var/lib/amqpost
# is for data that must survive a restart: a named volume mounted there takes its owner and mode.
# For a spool set AMQPOST__SPOOL__PATH=/var/lib/amqpost/spool, which amqpost creates itself: a
# mounted directory may belong to root, and then only root could close it to others. Such a volume
# must be writable for group 65532. The package is not pinned: authorities that Debian withdraws
# should be withdrawn here too.
# hadolint ignore=DL3008
RUN apt-get update && \
    apt-get install -y --no-install-recommends ca-certificates && \
    rm -rf /var/lib/apt/lists/* && \
    install -d -o 65532 -g 65532 -m 0700 /var/lib/amqpost
COPY --from=build /usr/local/bin/amqpost /usr/local/bin/amqpost
# A number, so that Kubernetes can see that it is not root (runAsNonRoot).
USER 65532:65532
# 8672: requests, see above. 9672: /livez, /readyz, /link, /metrics and /config, on all addresses,
# for probes and scrapes.
EXPOSE 8672 9672
# amqpost drains on SIGTERM; give it 30 s (docker stop --time 30) before it is killed, with a spool
# 40 s.
STOPSIGNAL SIGTERM
# Liveness and not readiness: a restart does not repair a broker.
HEALTHCHECK --interval=10s --timeout=5s --start-period=5s --retries=3 CMD ["amqpost", "health"]
ENTRYPOINT ["amqpost"]
CMD ["serve"]
