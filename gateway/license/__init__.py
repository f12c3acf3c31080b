"""May this model serve this use? Answered from a signed license, on every call.

A license is a compact JWS (`token`) whose signature is checked against keys that are trusted for its issuer only
(`trust`). Its claims (`claims`) are compared with the resolved target and the facts of the call by pure functions
without a clock (`check`). This room never sees text of a call. `cli` is the issuer's and the auditor's side.
"""
