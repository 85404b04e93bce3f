"""Plain CLIPs: architecture, prompts, published weights."""

import pytest
import torch
from small_clip import SMALL, openai_state, save_towers, small_towers, transformers_folder

from ovvol_bench import SettingError, WeightsError
from ovvol_bench.nn.clip import pretrained
from ovvol_bench.nn.clip.pretrained import load_clip, load_pretrained
from ovvol_bench.nn.clip.text import embed_sentences, tokenize
from ovvol_bench.nn.clip.towers import ClipNumbers, build_towers, clip_config
from ovvol_bench.weights import save_state


class TestText:
    def test_long_lists_are_embedded_in_parts(self):
        tower = small_towers().text
        sentences = [f"number {i}" for i in range(300)]
        rows = embed_sentences(tower, sentences)
        assert rows.shape == (300, 6)
        assert torch.allclose(rows[299:], embed_sentences(tower, sentences[299:]), atol=1e-6)

    def test_tokens_start_and_end_with_marks(self):
        tokens = tokenize(["dog", "Dog "])
        assert tokens.shape == (2, 77)
        assert tokens[0, :4].tolist() == [49406, 1929, 49407, 0]
        assert torch.equal(tokens[0], tokens[1])

    def test_prompts_up_to_the_limit_are_read_and_longer_ones_refused(self):
        assert tokenize(["dog " * 75])[0, -1] == 49407
        with pytest.raises(SettingError, match=r"'dog dog.*78 tokens.*reads 77"):
            tokenize(["cat", "dog " * 76])


class TestArchitecture:
    def test_named_models_take_no_numbers(self):
        with pytest.raises(SettingError, match=r"width can be set for model=custom only, not for 'ViT-B-16'"):
            clip_config("ViT-B-16", {"width": 16})

    def test_custom_models_need_all_numbers(self):
        with pytest.raises(SettingError, match="also needs image_size, text_heads"):
            clip_config("custom", {**SMALL, "image_size": None, "text_heads": None})

    def test_settings_come_before_what_a_file_says(self):
        config = clip_config("custom", {"width": 32}, {**SMALL, "quick_gelu": False})
        assert config["vision_cfg"]["width"] == 32
        assert config["quick_gelu"] is False

    def test_unknown_models_get_a_suggestion(self):
        with pytest.raises(SettingError, match="Did you mean 'ViT-B-16-quickgelu'"):
            clip_config("ViT-B-16-quikgelu", {})

    @pytest.mark.parametrize("name", ["RN50", "ViT-B-16-SigLIP", "coca_ViT-B-32", "roberta-ViT-B-32"])
    def test_other_families_are_refused(self, name):
        with pytest.raises(SettingError, match=f"'{name}' is not a plain CLIP"):
            build_towers(clip_config(name, {}), name)

    @pytest.mark.parametrize("numbers", [{"width": 15}, {"image_size": 13}, {"text_heads": 3}, {"layers": 0}])
    def test_unfit_numbers_are_refused(self, numbers):
        with pytest.raises(SettingError, match=r"CLIP: \w+="):
            ClipNumbers(**{**SMALL, **numbers})

    def test_numbers_are_read_back_from_towers(self):
        numbers = ClipNumbers(**SMALL, quick_gelu=False)
        assert build_towers(numbers.config()).numbers == numbers


class TestPretrained:
    def test_from_a_file_of_both_towers(self, tmp_path):
        source, towers = small_towers(), small_towers()
        torch.save(openai_state(source), tmp_path / "clip.pt")
        load_pretrained(towers, "custom", str(tmp_path / "clip.pt"))
        images, tokens = torch.randn(2, 3, 12, 12), tokenize(["a dog"])
        assert torch.allclose(towers.image(images), source.image(images), atol=1e-5)
        assert torch.allclose(towers.text(tokens), source.text(tokens), atol=1e-5)

    def test_a_file_of_our_own_states_its_architecture(self, tmp_path):
        source = small_towers(quick_gelu=False)
        save_towers(source, tmp_path / "clip.safetensors")
        towers = load_clip("custom", str(tmp_path / "clip.safetensors"))
        assert towers.numbers == source.numbers
        assert torch.equal(towers.image.proj, source.image.proj)
        assert torch.equal(towers.text.token_embedding.weight, source.text.token_embedding.weight)

    def test_a_folder_of_transformers_states_its_architecture(self, tmp_path):
        source = small_towers()
        transformers_folder(source, tmp_path)
        towers = load_clip("custom", str(tmp_path))
        assert towers.numbers == source.numbers
        images, tokens = torch.randn(2, 3, 12, 12), tokenize(["a dog"])
        assert torch.equal(towers.image.eval()(images), source.image.eval()(images))
        assert torch.equal(towers.text.eval()(tokens), source.text.eval()(tokens))

    @pytest.mark.parametrize(
        ("tower", "change", "words"),
        [
            ("vision", {"num_attention_heads": 4}, "made for heads=4, and the model has 2"),
            ("text", {"num_attention_heads": 1}, "made for text_heads=1, and the model has 2"),
            ("text", {"hidden_act": "gelu"}, "expected one GELU for both"),
            ("text", {"hidden_size": None}, "text_width is None"),
        ],
    )
    def test_a_folder_of_another_architecture_is_refused(self, tmp_path, tower, change, words):
        transformers_folder(small_towers(), tmp_path, **{tower: change})
        with pytest.raises(WeightsError, match=words):
            load_pretrained(small_towers(), "custom", str(tmp_path))

    def test_the_exact_gelu_of_a_folder_is_heeded(self, tmp_path):
        exact = {"hidden_act": "gelu"}
        transformers_folder(small_towers(quick_gelu=False), tmp_path, vision=exact, text=exact)
        with pytest.raises(SettingError, match="trained with the exact GELU"):
            load_pretrained(small_towers(), "custom", str(tmp_path))

    @pytest.mark.filterwarnings("ignore")
    def test_openais_archive_is_read_though_it_is_a_program(self, tmp_path):
        source, towers = small_towers(), small_towers()
        program = torch.nn.Module()
        program.visual = source.image
        for name, child in source.text.named_children():
            program.add_module(name, child)
        for name, value in source.text.named_parameters(recurse=False):
            program.register_parameter(name, value)
        for name in ("input_resolution", "context_length", "vocab_size"):
            program.register_buffer(name, torch.tensor(12))
        traced = torch.jit.trace_module(program, {})
        torch.jit.save(traced, tmp_path / "ViT-B-16.pt")
        load_pretrained(towers, "custom", str(tmp_path / "ViT-B-16.pt"))
        assert torch.equal(towers.image.proj, source.image.proj)
        assert torch.equal(towers.text.text_projection, source.text.text_projection)

    @pytest.mark.parametrize("header", ["{", "[1]", '{"width": 0}', "[" * 5000])
    def test_damaged_headers_are_refused(self, tmp_path, header):
        save_state({"model.proj": torch.ones(1)}, tmp_path / "w.safetensors", {"clip": header})
        with pytest.raises(WeightsError, match="header states no CLIP"):
            load_clip("custom", str(tmp_path / "w.safetensors"))

    def test_other_files_do_not(self, tmp_path):
        torch.save(openai_state(small_towers()), tmp_path / "clip.pt")
        with pytest.raises(SettingError, match=r"model=custom.*states it.*clip\.pt'"):
            load_clip("custom", str(tmp_path / "clip.pt"))

    def test_weights_of_a_plugin_by_its_name(self):
        assert load_clip("custom", "ovvol_plugins.pacl:shapes").numbers.embed_dim == 64
        with pytest.raises(WeightsError, match="these do: shapes"):
            load_clip("custom", "ovvol_plugins.pacl:shape")
        with pytest.raises(WeightsError, match=r"no package 'nowhere\.to' is installed"):
            load_clip("custom", "nowhere.to:shapes")

    def test_the_other_gelu_is_refused(self, tmp_path):
        torch.save(openai_state(small_towers()), tmp_path / "clip.pt")
        exact = small_towers(quick_gelu=False)
        with pytest.raises(SettingError, match=r"clip\.pt was trained with the quick GELU.*-quickgelu"):
            load_pretrained(exact, "custom", str(tmp_path / "clip.pt"))
        with pytest.raises(SettingError, match=r"'openai' was trained with the quick GELU.*-quickgelu"):
            load_pretrained(exact, "ViT-B-16", "openai")
        with pytest.raises(SettingError, match=r"exact GELU.*without '-quickgelu'"):
            load_pretrained(small_towers(), "ViT-B-16", "laion2b_s34b_b88k")

    def test_without_a_network_the_file_to_give_is_named(self, monkeypatch):
        monkeypatch.setattr(pretrained, "try_to_load_from_cache", lambda *_: None)
        monkeypatch.setattr(pretrained, "reachable", lambda address: False)
        with pytest.raises(WeightsError, match=r"openai.*open_clip_model\.safetensors.*labeler\.pretrained"):
            load_pretrained(small_towers(), "ViT-B-16-quickgelu", "openai")

    def test_weights_in_the_cache_need_no_network(self, monkeypatch, tmp_path):
        source, towers = small_towers(), small_towers()
        torch.save(openai_state(source), tmp_path / "open_clip_model.bin")
        monkeypatch.setattr(
            pretrained,
            "try_to_load_from_cache",
            lambda repository, name: str(tmp_path / "open_clip_model.bin"),
        )
        monkeypatch.setattr(pretrained, "reachable", lambda address: pytest.fail("asked the network"))
        load_pretrained(towers, "ViT-B-16-quickgelu", "openai")
        assert torch.equal(towers.image.proj, source.image.proj)

    @pytest.mark.parametrize(("model", "hint"), [("ViT-B-16-quickgelu", "mean 'openai'"), ("custom", "none")])
    def test_unknown_tags_are_refused(self, model, hint):
        with pytest.raises(WeightsError, match=f"'opnai' is no file.*{hint}"):
            load_pretrained(small_towers(), model, "opnai")
