"""Issuers of tokens: keys of openssl, JSON Web Key Sets and signed tokens (RFC 7515 to 7519)."""

import base64
import json
import subprocess
import time


def base64url(content):
    content = content.encode() if isinstance(content, str) else content
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def openssl(*arguments, input=b""):
    return subprocess.run(["openssl", *map(str, arguments)], input=input, capture_output=True, timeout=60, check=True).stdout


class Issuer:
    def __init__(self, name, folder, algorithm="ES256"):
        self.name, self.folder, self.algorithm, self.number = name, folder, algorithm, 0
        self.rotate()

    def rotate(self):
        """A fresh key, under a name of its own."""
        self.number += 1
        self.kid = f"{self.name.rpartition('/')[2]}-{self.number}"
        self.key = self.folder / f"{self.kid}.pem"
        kind = {
            "ES256": ["EC", "-pkeyopt", "ec_paramgen_curve:P-256"], "RS256": ["RSA", "-pkeyopt", "rsa_keygen_bits:2048"]}
        openssl("genpkey", "-algorithm", *kind[self.algorithm], "-out", self.key)

    @property
    def jwks(self):
        common = {"kid": self.kid, "alg": self.algorithm, "use": "sig"}
        if self.algorithm == "RS256":
            modulus = bytes.fromhex(openssl("rsa", "-in", self.key, "-noout", "-modulus").decode().strip().split("=")[1])
            return json.dumps({"keys": [{**common, "kty": "RSA", "n": base64url(modulus), "e": "AQAB"}]})
        # The point is the end of SubjectPublicKeyInfo: 32 bytes of x, and of y.
        point = openssl("pkey", "-in", self.key, "-pubout", "-outform", "DER")[-64:]
        return json.dumps({"keys": [{
            **common, "kty": "EC", "crv": "P-256", "x": base64url(point[:32]), "y": base64url(point[32:])}]})

    def token(self, **claims):
        now = int(time.time())
        claims = {"iss": self.name, "sub": "somebody", "iat": now, "exp": now + 3600, **claims}
        head = base64url(json.dumps({"alg": self.algorithm, "kid": self.kid, "typ": "JWT"}))
        signed = f"{head}.{base64url(json.dumps(claims))}"
        signature = openssl("dgst", "-sha256", "-sign", self.key, input=signed.encode())
        if self.algorithm == "ES256":
            # SEQUENCE { INTEGER r, INTEGER s }, each perhaps with a leading zero; JWS wants 32 bytes of each.
            first, second = signature[4:4 + signature[3]], signature[6 + signature[3]:]
            signature = b"".join(part[-32:].rjust(32, b"\0") for part in (first, second))
        return f"{signed}.{base64url(signature)}"
