/** What the platform binds to this worker; on Cloudflare the same names come from wrangler and its secrets. */
export interface Env {
  readonly HYPERDRIVE: Hyperdrive;
  readonly FILES: R2Bucket;
  readonly UPSTASH_REDIS_REST_URL: string;
  readonly UPSTASH_REDIS_REST_TOKEN: string;
  readonly APP_ENVIRONMENT: string;
}
