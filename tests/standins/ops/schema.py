"""The keys of ops 0.1.43's configuration with their types, in Go's spelling because its messages use it."""

from __future__ import annotations

STRING, BOOL, INT, LIST, TABLE, ANY_TABLE = (
    "string", "bool", "int", "[]string", "map[string]string", "map[string]interface {}",
)  # fmt: skip

Struct = dict[str, "str | tuple[str, str]"]
"""Field → a type name, or ("struct" | "list", name of a struct)."""


def _fields(kind: str, names: str) -> Struct:
    return dict.fromkeys(names.split(), kind)


STRUCTS: dict[str, Struct] = {
    "Config": {
        **_fields(
            STRING,
            "BaseVolumeSz Boot UefiBoot BuildDir home Kernel KlibDir NanosVersion Program ProgramPath TargetRoot"
            " LocalFilesParentDirectory Version Language Description VolumesDir PackageBaseURL PackageManifestURL",
        ),
        **_fields(BOOL, "DisableArgsCopy Uefi Force NightlyBuild RebootOnExit TFSv4"),
        **_fields(LIST, "Args Debugflags Dirs Files Klibs NameServers NoTrace"),
        **_fields(TABLE, "TargetConfig Env MapDirs Mounts"),
        "ManifestPassthrough": ANY_TABLE,
        "CloudConfig": ("struct", "ProviderConfig"),
        "RunConfig": ("struct", "RunConfig"),
    },
    "ProviderConfig": {
        **_fields(
            STRING,
            "BucketName BucketNamespace DedicatedHostID DomainName StaticIP Flavor ImageType ImageName InstanceProfile"
            " KMS Platform ProjectID SecurityGroup Subnet VPC Zone",
        ),
        **_fields(BOOL, "ConfidentialVM EnableIPv6 SkipImportVerify Spot"),
        "RootVolume": ("struct", "CloudVolume"),
        "Tags": ("list", "Tag"),
    },
    "CloudVolume": {**_fields(STRING, "name typeof"), **_fields(INT, "iops size throughput")},
    "Tag": {**_fields(STRING, "key value"), "attribute": ("struct", "TagAttribute")},
    "TagAttribute": _fields(BOOL, "image_label instance_label instance_network instance_metadata"),
    "RunConfig": {
        **_fields(
            STRING,
            "AtExit BridgeIPAddress BridgeName GPUType Gateway ImageName InstanceGroup InstanceName IPAddress"
            " IPv6Address Kernel Memory Mgmt NetMask TapName",
        ),
        **_fields(
            BOOL,
            "Accel Bridged CanIPForward Debug Vga AttachVolumeOnInstanceCreate Background QMP ShowDebug ShowErrors"
            " ShowWarnings JSON Verbose",
        ),
        **_fields(INT, "CPUs GPUs GdbPort VolumeSizeInGb ThreadsPerCore"),
        **_fields(LIST, "Mounts Ports UDPPorts"),
        "Nics": ("list", "Nic"),
    },
    "Nic": _fields(STRING, "IPAddress IPv6Address NetMask Gateway BridgeName"),
}
