// What must never be in a log: tokens whole or in part, keys, authorization headers.

const patterns = {
  // The first or second part of any JSON Web Token: base64url of `{"`.
  token: /eyJ[\w-]{8,}/g,
  header: /\bauthorization\b["']?\s*[:=]/gi,
  bearer: /\bbearer\s+[\w-]{8,}/gi,
  'private key': /PRIVATE KEY-----|"d"\s*:\s*"[\w-]{20,}/g,
};

/**
 * Returns what `text` has of the kinds above or of the given secrets, one short description for each.
 * Of a secret token the signature alone counts too: it has no shape of its own by which to find it.
 */
export function findSecrets(text, secrets) {
  const found = Object.entries(patterns).flatMap(([kind, pattern]) =>
    [...text.matchAll(pattern)].map(match => `${kind} at ${match.index}: ${match[0].slice(0, 24)}`),
  );
  for (const secret of secrets) {
    for (const part of secret.split(/[.\n]/).filter(part => part.length >= 16)) {
      const at = text.indexOf(part);
      if (at >= 0) found.push(`known secret at ${at}: ${part.slice(0, 12)}…`);
    }
  }
  return found;
}
