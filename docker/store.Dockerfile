# The S3 store: versitygw, which keeps objects as files of a folder.
#
# Why this one: the registry stands on `PutObject` with `If-None-Match: *` having one winner (docs/registry.md). versitygw decides and
# publishes under a lock of the key, which its releases before 1.8.0 did not: several writers of one race could win. Don't go below it.
# SeaweedFS closed the same race in 4.18, but the gRPC port beside its S3 port takes new identities from anybody who reaches it
# unless mutual TLS is set up, so keys of least privilege would protect nothing on a shared network. MinIO's community edition is
# no longer maintained.
FROM versity/versitygw:v1.8.0

# A new volume takes the owner of the folder that it is mounted over.
RUN addgroup -g 10001 store && adduser -D -H -u 10001 -G store store && mkdir /data && chown store:store /data
USER 10001:10001
ENTRYPOINT []
CMD ["versitygw", "--version"]
