"""The names of kept images belong to one data folder."""

from __future__ import annotations

from core.deployment.release import kept_image, names_to_remove, pin_images

OWN, OTHER = "0123abcd", "dcba3210"
FIRST, SECOND = f"sha256:{'1' * 64}", f"sha256:{'2' * 64}"


def test_names_of_another_folder_stay() -> None:
    names = [kept_image(FIRST, OWN), kept_image(SECOND, OWN), kept_image(SECOND, OTHER)]
    assert names_to_remove(names, [FIRST], OWN) == (kept_image(SECOND, OWN),)
    assert names_to_remove(names, [], OTHER) == (kept_image(SECOND, OTHER),)


def test_a_name_without_an_owner_goes_once_the_image_has_a_name_with_one() -> None:
    earlier = [f"roas-release:{'1' * 16}", f"roas-release:{'2' * 16}"]
    assert names_to_remove(earlier, [FIRST], OWN) == ()
    assert names_to_remove([*earlier, kept_image(FIRST, OWN)], [FIRST], OWN) == (earlier[0],)


def test_a_moved_name_is_replaced_by_the_folders_own_name() -> None:
    document = pin_images({"services": {"web": {"image": "shop"}}}, {"web": FIRST}, {"web": SECOND}, OWN)
    assert document["services"]["web"] == {"image": f"roas-release:{OWN}-{'1' * 16}", "pull_policy": "never"}


def test_an_image_that_was_built_under_the_name_of_its_service_needs_no_build_context() -> None:
    template = {"services": {"web": {"build": {"context": "./app"}}}}
    moved = pin_images(template, {"web": FIRST}, {"web": SECOND}, OWN)
    same = pin_images(template, {"web": FIRST}, {"web": FIRST}, OWN)
    assert moved["services"]["web"] == {"image": kept_image(FIRST, OWN), "pull_policy": "never"}
    assert same["services"]["web"] == {"build": {"context": "/dev/null"}, "pull_policy": "never"}
