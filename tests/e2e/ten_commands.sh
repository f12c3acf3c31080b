# Who decides about the model, and what they decide about.
licet authority init authority --issuer https://board.example \
  --person ann:applicant --person olga:officer,assessor,operator --person pia:approver --person paul:approver
echo "why, for what, from which data, how kept safe" > dossier.txt
DIGEST=sha256:$(sha256sum dossier.txt | cut -d' ' -f1)
cat > application.yaml <<END
license:
  regime: internal
  holder: {legal_name: Example Ltd}
  model: {name: sample-echo}
  endpoint: {origins: ["http://127.0.0.1:${SAMPLE:-8090}"], served_model_aliases: ["sample-*"]}
  jurisdictions: [eu]
  purposes: [demo]
  modalities_in: [text]
  modalities_out: [text]
  application: {need: $DIGEST, objectives: $DIGEST, data_sources: [$DIGEST],
    intended_applications: $DIGEST, security_measures: $DIGEST, anti_misuse_measures: $DIGEST}
END

# From the application to a license that is published: each step by someone who holds the role.
ID=$(licet authority submit application.yaml --as ann)
licet authority complete $ID --as olga
licet authority assess $ID --as olga --type security --report dossier.txt --result passed
licet authority decide $ID --as pia --approve --reason "as assessed"
licet authority confirm $ID --as paul
licet authority issue $ID --as olga --out license.jws --publish

# A gateway that follows what the authority publishes, in front of a sample model.
cat > policy.yaml <<END
version: 1
name: demo
owner: board@example.com
preset: []
mode: enforce
facts: {tenant: caller.tenant, territory: [eu], purpose: demo, audience: internal}
license: {required: true, regimes: [internal], binding_min: 1}
END
cat > gateway.yaml <<END
listen: {host: 127.0.0.1, port: ${PORT:-8081}}
data: ./var
callers: [{name: app, key_sha256: $(printf lk-demo | sha256sum | cut -d' ' -f1), models: [chat], tenant: demo}]
trust: {tuf: authority/tuf, root: authority/root.json, refresh_s: 1}
models:
  - name: chat
    license: license.jws
    policy: policy.yaml
    targets: [{protocol: openai, base_url: "http://127.0.0.1:${SAMPLE:-8090}/v1", model: sample-echo}]
END
python -m gateway.sample --port ${SAMPLE:-8090} &
licet serve --config gateway.yaml &
ask() { curl -s -w '\n%{http_code}\n' http://127.0.0.1:${PORT:-8081}/v1/chat/completions \
  -H 'Authorization: Bearer lk-demo' -H 'Content-Type: application/json' \
  -d '{"model":"chat","messages":[{"role":"user","content":"Hello."}]}'; }
until ask | grep -x 200; do sleep 0.2; done                           # 200: the model answers

# One person revokes it, at once; within refresh_s no call passes. The story is kept.
licet authority revoke $ID --as pia --reason "obtained by deceit" --publish
until ask | grep LIC_STATE; do sleep 0.2; done                        # 403: refused everywhere
licet authority history $ID --as olga
