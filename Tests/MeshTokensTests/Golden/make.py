#!/usr/bin/env python3
"""Writes tokens.txt: a key set, then one token for each algorithm, signed by PyJWT. Wants: pip install pyjwt[crypto].

Lines: `keys JSON`, then `token NAME TEXT`. Keys are new with each run; the private ones are thrown away."""
import base64
import json
import pathlib
import secrets

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

claims = {"iss": "https://issuer.example", "sub": "alice", "aud": ["shop", "bank"], "azp": "app",
          "scope": "read write", "groups": ["a", "b"], "nested": {"role": "admin", "level": 3, "on": True},
          "iat": 1_700_000_000, "nbf": 1_700_000_000, "exp": 4_000_000_000}


def b64(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


keys, tokens = [], []


def add(name, private, jwk, **header):
    tokens.append((name, jwt.encode(claims, private, algorithm=name, headers={"kid": jwk["kid"], **header})))


rsa_key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
jwk = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(rsa_key.public_key())) | {"kid": "rsa"}
keys.append(jwk)
for name in ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"):
    add(name, rsa_key, jwk)
for name, curve in (("ES256", ec.SECP256R1()), ("ES384", ec.SECP384R1()), ("ES512", ec.SECP521R1())):
    key = ec.generate_private_key(curve)
    jwk = json.loads(jwt.algorithms.ECAlgorithm.to_jwk(key.public_key())) | {"kid": name}
    keys.append(jwk)
    add(name, key, jwk)
key = ed25519.Ed25519PrivateKey.generate()
jwk = json.loads(jwt.algorithms.OKPAlgorithm.to_jwk(key.public_key())) | {"kid": "ed"}
keys.append(jwk)
add("EdDSA", key, jwk)
secret = secrets.token_bytes(64)
jwk = {"kty": "oct", "k": b64(secret), "kid": "secret"}
keys.append(jwk)
for name in ("HS256", "HS384", "HS512"):
    add(name, secret, jwk)

text = "keys " + json.dumps({"keys": keys}) + "\n" + "".join(f"token {n} {t}\n" for n, t in tokens)
(pathlib.Path(__file__).parent / "tokens.txt").write_text(text)
