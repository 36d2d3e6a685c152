# The image: a first stage compiles, the second has Python and what was installed, and no compiler.
#
#     docker build --tag pgdoorman .
#
# docs/containers.md tells how to run it.
ARG PYTHON=3.13

FROM python:${PYTHON}-slim-trixie AS build
# The compiler is Debian's of that day; it does not get into the image.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/*
# 1 leaves compiling out (README.md).
ARG PGDOORMAN_PURE=
WORKDIR /src
COPY LICENSE README.md pgdoorman.py pyproject.toml setup.cfg setup.py ./
COPY pgdoorman_lib pgdoorman_lib
# What is installed is this source, whose extras hadolint takes for a package.
# hadolint ignore=DL3013
RUN python -m venv --without-pip /opt/pgdoorman \
    && pip --python /opt/pgdoorman install --no-cache-dir '.[jwt,ldap,pam]'

FROM python:${PYTHON}-slim-trixie
# A number no account of the host has.
RUN groupadd --gid 10001 pgdoorman \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin pgdoorman
COPY --from=build /opt/pgdoorman /opt/pgdoorman
ENV PATH=/opt/pgdoorman/bin:$PATH
# Numbers, since Kubernetes can't tell from a name whether it is root's.
USER 10001:10001
EXPOSE 6432 9127
# It drains; shutdown_timeout has to be shorter than what the engine grants.
STOPSIGNAL SIGTERM
# [web] has to be on, on its own port. Not urllib, which would go by http_proxy.
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s --retries=6 CMD ["/opt/pgdoorman/bin/python", "-I", "-c", \
    "from http.client import HTTPConnection as C; c = C('127.0.0.1', 9127, timeout=4); c.request('GET', '/health'); raise SystemExit(c.getresponse().status != 200)"]
ENTRYPOINT ["/opt/pgdoorman/bin/pgdoorman"]
CMD ["/etc/pgdoorman/pg_doorman.toml"]
